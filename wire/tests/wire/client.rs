//! A client that says exactly the bytes it is told to and shows each answer as one line of text.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// No answer takes longer in these tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Client<S> {
    pub stream: S,
    buffer: BytesMut,
    /// From BackendKeyData.
    pub key: Vec<u8>,
}

pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

pub fn query(text: &str) -> Vec<u8> {
    message(b'Q', format!("{text}\0").as_bytes())
}

pub fn parse(name: &str, text: &str) -> Vec<u8> {
    message(b'P', format!("{name}\0{text}\0\0\0").as_bytes())
}

/// Text parameters, text results.
pub fn bind(portal: &str, statement: &str, parameters: &[Option<&str>]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
    body.extend_from_slice(&(parameters.len() as u16).to_be_bytes());
    for parameter in parameters {
        match parameter {
            Some(text) => {
                body.extend_from_slice(&(text.len() as u32).to_be_bytes());
                body.extend_from_slice(text.as_bytes());
            }
            None => body.extend_from_slice(&[0xff; 4]),
        }
    }
    body.extend_from_slice(&[0, 0]);
    message(b'B', &body)
}

pub fn execute(portal: &str, max_rows: u32) -> Vec<u8> {
    let mut body = format!("{portal}\0").into_bytes();
    body.extend_from_slice(&max_rows.to_be_bytes());
    message(b'E', &body)
}

pub fn describe(kind: char, name: &str) -> Vec<u8> {
    message(b'D', format!("{kind}{name}\0").as_bytes())
}

pub fn sync() -> Vec<u8> {
    message(b'S', b"")
}

pub fn startup(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    let mut bytes = (body.len() as u32 + 4).to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

pub const VERSION_3_0: u32 = 3 << 16;
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
pub const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub fn over(stream: S) -> Client<S> {
        Client { stream, buffer: BytesMut::new(), key: Vec::new() }
    }

    pub async fn send(&mut self, parts: &[Vec<u8>]) {
        self.stream.write_all(&parts.concat()).await.expect("the server reads");
        self.stream.flush().await.expect("the server reads");
    }

    /// The next message; `None` at the end of the connection.
    pub async fn receive(&mut self) -> Option<(u8, Vec<u8>)> {
        tokio::time::timeout(PATIENCE, async {
            loop {
                if self.buffer.len() >= 5 {
                    let length = (&self.buffer[1..5]).get_u32() as usize;
                    if self.buffer.len() > length {
                        let mut message = self.buffer.split_to(length + 1);
                        let kind = message[0];
                        message.advance(5);
                        return Some((kind, message.to_vec()));
                    }
                }
                match self.stream.read_buf(&mut self.buffer).await {
                    Ok(0) => return None,
                    Ok(_) => {}
                    Err(error) => {
                        let expected = [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof];
                        assert!(expected.contains(&error.kind()), "{error}");
                        return None;
                    }
                }
            }
        })
        .await
        .expect("an answer in time")
    }

    /// Every message up to and with ReadyForQuery, or the end; one line each.
    pub async fn answer(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            match self.receive().await {
                Some((kind, body)) => {
                    lines.push(show(kind, &body));
                    if kind == b'Z' {
                        return lines;
                    }
                }
                None => {
                    lines.push("end".to_string());
                    return lines;
                }
            }
        }
    }

    pub async fn ask(&mut self, parts: &[Vec<u8>]) -> Vec<String> {
        self.send(parts).await;
        self.answer().await
    }

    /// The SCRAM exchange after a startup packet, then the greeting; one line for each message.
    pub async fn scram(&mut self, password: &str, binding: ChannelBinding, mechanism: &str) -> Vec<String> {
        let mut scram = ScramSha256::new(password.as_bytes(), binding);
        let mut lines = Vec::new();
        loop {
            let Some((kind, body)) = self.receive().await else {
                lines.push("end".to_string());
                return lines;
            };
            lines.push(show(kind, &body));
            match (kind, body.get(..4)) {
                (b'R', Some([0, 0, 0, 10])) => {
                    let first = scram.message().to_vec();
                    let mut body = format!("{mechanism}\0").into_bytes();
                    body.extend_from_slice(&(first.len() as u32).to_be_bytes());
                    body.extend_from_slice(&first);
                    self.send(&[message(b'p', &body)]).await;
                }
                (b'R', Some([0, 0, 0, 11])) => {
                    scram.update(&body[4..]).expect("server first");
                    let last = scram.message().to_vec();
                    self.send(&[message(b'p', &last)]).await;
                }
                (b'R', Some([0, 0, 0, 12])) => scram.finish(&body[4..]).expect("the server's signature"),
                (b'K', _) => self.key = body,
                (b'Z', _) => return lines,
                _ => {}
            }
        }
    }

    /// Startup and SCRAM without channel binding.
    pub async fn log_in(&mut self, role: &str, password: &str) -> Vec<String> {
        self.send(&[startup(VERSION_3_0, &[("user", role), ("database", "db")])]).await;
        self.scram(password, ChannelBinding::unsupported(), "SCRAM-SHA-256").await
    }
}

impl Client<TcpStream> {
    pub async fn connect(address: SocketAddr) -> Client<TcpStream> {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        stream.set_nodelay(true).expect("nodelay");
        Client::over(stream)
    }

    pub async fn logged_in(address: SocketAddr) -> Client<TcpStream> {
        let mut client = Client::connect(address).await;
        let lines = client.log_in("alice", super::database::PASSWORD).await;
        assert_eq!(lines.last().map(String::as_str), Some("Z I"), "{lines:?}");
        client
    }
}

/// Does not care who the server is: that is what the certificate tests of rustls are for.
#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A TLS handshake on `stream`, offering `protocol` by ALPN.
pub async fn encrypt(stream: TcpStream, protocol: Option<&str>) -> io::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)))
        .with_no_client_auth();
    config.alpn_protocols = protocol.map(|name| name.as_bytes().to_vec()).into_iter().collect();
    let name = ServerName::try_from("localhost").expect("name");
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

/// The channel binding of a connection, as RFC 5929 defines tls-server-end-point.
pub fn end_point(stream: &TlsStream<TcpStream>) -> Vec<u8> {
    let certificates = stream.get_ref().1.peer_certificates().expect("a certificate");
    Sha256::digest(&certificates[0]).to_vec()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn strings(bytes: &[u8]) -> Vec<String> {
    bytes.split(|byte| *byte == 0).filter(|part| !part.is_empty()).map(text).collect()
}

/// One message as a line.
fn show(kind: u8, body: &[u8]) -> String {
    let mut rest = body;
    match kind {
        b'T' => {
            let mut line = "T".to_string();
            for _ in 0..rest.get_u16() {
                let end = rest.iter().position(|byte| *byte == 0).expect("a name");
                let name = text(&rest[..end]);
                rest.advance(end + 1 + 6);
                let oid = rest.get_u32();
                rest.advance(6);
                let format = rest.get_u16();
                line.push_str(&format!(" {name}:{oid}:{format}"));
            }
            line
        }
        b'D' => {
            let values: Vec<String> = (0..rest.get_u16())
                .map(|_| match rest.get_i32() {
                    -1 => "NULL".to_string(),
                    length => text(&rest.copy_to_bytes(length as usize)),
                })
                .collect();
            assert!(rest.is_empty());
            format!("D {}", values.join("|"))
        }
        b'E' | b'N' => {
            let fields = strings(body);
            let field =
                |code: char| fields.iter().find_map(|field| field.strip_prefix(code)).unwrap_or_default();
            format!("{} {} {} {}", kind as char, field('S'), field('C'), field('M'))
        }
        b'R' => {
            let code = rest.get_u32();
            match code {
                10 => format!("R {code} {}", strings(rest).join(" ")),
                _ => format!("R {code}"),
            }
        }
        b't' => {
            let types: Vec<String> = (0..rest.get_u16()).map(|_| rest.get_u32().to_string()).collect();
            format!("t {}", types.join(" "))
        }
        b'S' | b'A' => format!("S {}", strings(body).join("=")),
        b'C' | b'Z' | b'd' => format!("{} {}", kind as char, text(body).trim_end_matches(['\0', '\n'])),
        b'G' | b'H' => format!("{} {}", kind as char, rest[0]),
        b'v' => format!("v {:x} {}", rest.get_u32(), strings(&rest[4..]).join(" ")),
        kind => (kind as char).to_string(),
    }
}
