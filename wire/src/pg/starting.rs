//! Answers clients while the database is not there yet: 57P03, after which drivers try again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use value::{Result, SqlState};

/// A client that says nothing is not waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest startup packet (PostgreSQL's limit).
const LONGEST: usize = 10_000;
const SSL: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// Listens until the future is dropped. `detail` says how far the start has come.
pub async fn refuse(listen: SocketAddr, detail: Arc<dyn Fn() -> String + Send + Sync>) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    let mut answers = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                if answers.len() < 100 {
                    let detail = detail();
                    answers.spawn(async move {
                        // Whoever is gone needs no answer.
                        let _ = tokio::time::timeout(PATIENCE, answer(stream, &detail)).await;
                    });
                }
            }
            Some(_) = answers.join_next() => {}
        }
    }
}

async fn answer(mut stream: TcpStream, detail: &str) -> std::io::Result<()> {
    // SSLRequest and GSSENCRequest come before the startup packet, at most one of each.
    for _ in 0..3 {
        let len = stream.read_u32().await? as usize;
        let code = stream.read_u32().await?;
        if len == 8 && (code == SSL || code == GSS) {
            stream.write_all(b"N").await?;
            continue;
        }
        if !(8..=LONGEST).contains(&len) {
            return Ok(());
        }
        let mut rest = vec![0; len - 8];
        stream.read_exact(&mut rest).await?;
        // A cancel request gets no answer.
        if code >> 16 == 3 {
            stream.write_all(&message(detail)).await?;
            stream.shutdown().await?;
        }
        return Ok(());
    }
    Ok(())
}

fn message(detail: &str) -> Vec<u8> {
    let mut fields = Vec::new();
    let state = SqlState::CANNOT_CONNECT_NOW.to_string();
    let parts = [
        (b'S', "FATAL"),
        (b'V', "FATAL"),
        (b'C', state.as_str()),
        (b'M', "the database system is starting up"),
        (b'D', detail),
    ];
    for (kind, text) in parts {
        fields.push(kind);
        fields.extend_from_slice(text.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let mut out = vec![b'E'];
    out.extend_from_slice(&(fields.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(&fields);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn clients_are_told_to_come_back() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let listen = free.expect("a port");
        let detail: Arc<dyn Fn() -> String + Send + Sync> = Arc::new(|| "12 records so far.".to_owned());
        let refusing = tokio::spawn(refuse(listen, detail));
        let mut stream = loop {
            match TcpStream::connect(listen).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        };
        stream.write_all(&[0, 0, 0, 8, 4, 210, 22, 47]).await.expect("SSLRequest");
        assert_eq!(stream.read_u8().await.expect("an answer"), b'N');
        stream.write_all(&[0, 0, 0, 17, 0, 3, 0, 0]).await.expect("a startup packet");
        stream.write_all(b"user\0a\0\0\0").await.expect("its rest");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("an error");
        let text = String::from_utf8_lossy(&answer);
        assert!(text.starts_with('E') && text.contains("C57P03") && text.contains("12 records"), "{text}");
        refusing.abort();
    }
}
