//! From the accepted socket to a session: TLS (asked for or at once), the startup packet, authentication, the
//! greeting. Everything before the proof is bounded: 10 kB for the packet, 64 kB for a password message, 60 s
//! for all of it together.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use pgwire::api::auth::sasl::scram::ScramServerAuth;
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey};
use session::{Peer, Session, Startup};
use value::{Error, Result, SqlState};

use super::auth::{self, Method};
use super::cancel;
use super::encode;
use super::frame::{Body, violation};
use super::listener::{Shared, Slot};
use super::stream::{End, Fail, Link, Stream};
use super::tls;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
/// First byte of a TLS handshake record; no startup packet of ours can start with it.
const TLS_HANDSHAKE: u8 = 0x16;
/// The newest minor version of protocol 3 that is spoken here; 3.1 was never given out.
const NEWEST_MINOR: u16 = 2;

/// A connection that got in.
pub struct Established {
    pub session: Box<dyn Session>,
    /// Its place among the connections allowed.
    pub slot: Slot,
}

/// What the startup packet said.
struct Request {
    minor: u16,
    startup: Startup,
    /// Options of the protocol (`_pq_.`) that are not known here.
    unknown: Vec<String>,
}

/// Everything up to the first ReadyForQuery. `None`: the client only wanted to cancel something, or left.
pub async fn run(link: &mut Link, shared: &Shared, peer: Peer) -> Result<Option<Established>, End> {
    let proven = tokio::time::timeout(shared.options.authentication_timeout, prove(link, shared, peer)).await;
    let (request, slot) = match proven {
        Ok(Ok(Some(proven))) => proven,
        Ok(Ok(None)) => return Ok(None),
        Ok(Err(end)) => return Err(end),
        Err(_) => {
            return Err(End::Fatal(
                Error::new(SqlState::QUERY_CANCELED, "canceling authentication due to timeout").fatal(),
            ));
        }
    };
    let database = shared.database().map_err(End::Fatal)?;
    let opened = link.during(database.open(request.startup)).await;
    let session = opened.map_err(|fail| match fail {
        Fail::Statement(error) => End::Fatal(error.fatal()),
        Fail::End(end) => end,
    })?;
    greet(link, session.as_ref(), request.minor).map_err(End::Fatal)?;
    Ok(Some(Established { session, slot }))
}

fn greet(link: &mut Link, session: &dyn Session, minor: u16) -> Result<()> {
    let out = &mut link.output.bytes;
    for (name, value) in session.reported_parameters() {
        encode::parameter_status(out, name, &value);
    }
    let secret = session.cancel_secret();
    // Protocol 3.0 has room for four bytes.
    let secret = if minor == 0 { &secret[..secret.len().min(4)] } else { secret };
    let key = SecretKey::Bytes(Bytes::copy_from_slice(secret));
    encode::rare(out, &BackendKeyData::new(session.process_id(), key))?;
    encode::ready_for_query(out, session.transaction_status());
    link.output.end_answer();
    Ok(())
}

/// TLS, the packet, the rules and the proof.
async fn prove(link: &mut Link, shared: &Shared, mut peer: Peer) -> Result<Option<(Request, Slot)>, End> {
    let mut scram = ScramServerAuth::new();
    if direct_tls(link).await? {
        let Some(tls) = &shared.tls else {
            return Err(End::Done);
        };
        scram = upgrade(link, &tls.current()).await?;
        note_tls(&mut peer);
        let negotiated = match &link.stream {
            Stream::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(tls::PROTOCOL),
            _ => false,
        };
        if !negotiated {
            return Err(End::Fatal(
                violation(
                    "received direct SSL connection request without ALPN protocol negotiation extension",
                )
                .fatal(),
            ));
        }
    }
    let (code, packet) = loop {
        let Some(packet) = packet(link).await? else {
            return Ok(None);
        };
        let code = Body::new(&packet).u32().map_err(End::Fatal)?;
        let encrypted = matches!(link.stream, Stream::Tls(_));
        match code {
            SSL_REQUEST if !encrypted => match (&shared.tls, &link.stream) {
                (Some(tls), Stream::Tcp(_)) => {
                    refuse_plaintext(link)?;
                    link.output.bytes.push(b'S');
                    link.output.end_message();
                    link.flush().await?;
                    scram = upgrade(link, &tls.current()).await?;
                    note_tls(&mut peer);
                }
                _ => refuse_encryption(link).await?,
            },
            GSS_REQUEST if !encrypted => refuse_encryption(link).await?,
            CANCEL_REQUEST => {
                let mut body = Body::new(&packet);
                body.u32().map_err(End::Fatal)?;
                // Nothing runs that could be cancelled while the server starts.
                if let Ok(database) = shared.database() {
                    cancel::request(database, body).map_err(End::Fatal)?;
                }
                return Ok(None);
            }
            _ => break (code, packet),
        }
    };
    let request = request(code, &packet, peer).map_err(End::Fatal)?;
    if request.minor > NEWEST_MINOR || request.minor == 1 || !request.unknown.is_empty() {
        let version = (3 << 16) | i32::from(spoken(request.minor));
        let answer = NegotiateProtocolVersion::new(version, request.unknown.clone());
        encode::rare(&mut link.output.bytes, &answer).map_err(End::Fatal)?;
        link.output.end_message();
    }
    let request = Request { minor: spoken(request.minor), ..request };
    shared.database().map_err(End::Fatal)?;
    shared.admits().map_err(End::Fatal)?;
    let slot = shared.slots.take().map_err(End::Fatal)?;
    let startup = &request.startup;
    let login = authenticate(link, shared, startup, &scram).await?;
    if let Err(error) = slot.admit(login.is_some_and(|login| login.superuser)) {
        return Err(End::Fatal(error));
    }
    Ok(Some((request, slot)))
}

async fn authenticate(
    link: &mut Link,
    shared: &Shared,
    startup: &Startup,
    scram: &ScramServerAuth,
) -> Result<Option<session::Login>, End> {
    let database = shared.database().map_err(End::Fatal)?;
    let role = &startup.user;
    let login = database.login(role);
    let proof = async {
        let method = auth::method(&shared.options.rules, &startup.peer, role, &startup.database)
            .map_err(End::Fatal)?;
        if method != Method::Trust {
            let iterations = shared.options.scram_iterations;
            auth::scram(link, database, role, login.as_ref(), scram, iterations).await?;
        }
        auth::admit(role, login.as_ref()).map_err(End::Fatal)?;
        auth::send(link, Authentication::Ok)
    };
    let result = proof.await;
    if let Err(End::Fatal(error)) = &result {
        database.login_failed(role, &startup.peer, error);
    }
    result.map(|()| login)
}

fn spoken(asked: u16) -> u16 {
    match asked {
        0 | 1 => 0,
        _ => NEWEST_MINOR,
    }
}

fn note_tls(peer: &mut Peer) {
    if let Peer::Tcp { tls, .. } = peer {
        *tls = true;
    }
}

/// Looks at the first byte without taking it.
async fn direct_tls(link: &Link) -> Result<bool, End> {
    let Stream::Tcp(stream) = &link.stream else {
        return Ok(false);
    };
    let mut first = [0];
    let count = stream.get_ref().peek(&mut first).await?;
    Ok(count == 1 && first[0] == TLS_HANDSHAKE)
}

/// Bytes sent along with an SSLRequest would be read as if they had come encrypted.
fn refuse_plaintext(link: &Link) -> Result<(), End> {
    if link.reader.is_empty() {
        return Ok(());
    }
    let error = violation("received unencrypted data after SSL request").detail(
        "This could be either a client-software bug or evidence of an attempted man-in-the-middle attack.",
    );
    Err(End::Fatal(error.fatal()))
}

async fn refuse_encryption(link: &mut Link) -> Result<(), End> {
    if !link.reader.is_empty() {
        // A client that goes on before it knows the answer cannot know what it sends.
        return Err(End::Fatal(violation("received unencrypted data after encryption request").fatal()));
    }
    link.output.bytes.push(b'N');
    link.output.end_message();
    link.flush().await
}

/// Turns the connection into a TLS one; gives SCRAM bound to the certificate used.
async fn upgrade(link: &mut Link, tls: &Arc<tls::Current>) -> Result<ScramServerAuth, End> {
    match std::mem::replace(&mut link.stream, Stream::Gone) {
        Stream::Tcp(stream) => {
            let stream = tls.acceptor.accept(stream).await?;
            link.stream = Stream::Tls(Box::new(stream));
            Ok(tls.scram.clone())
        }
        other => {
            link.stream = other;
            Err(End::Fatal(
                Error::internal("TLS was asked for on a connection that has it or cannot have it").fatal(),
            ))
        }
    }
}

/// The next startup packet; `None` when the client leaves without a word.
async fn packet(link: &mut Link) -> Result<Option<Bytes>, End> {
    loop {
        if let Some(packet) = link.reader.startup(&link.limits).map_err(End::Fatal)? {
            return Ok(Some(packet));
        }
        if !link.fill().await? {
            return Ok(None);
        }
    }
}

/// Reads a StartupMessage.
fn request(code: u32, packet: &Bytes, peer: Peer) -> Result<Request> {
    let (major, minor) = ((code >> 16) as u16, code as u16);
    if major != 3 {
        return Err(Error::new(
            SqlState::FEATURE_NOT_SUPPORTED,
            format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{NEWEST_MINOR}"),
        )
        .fatal());
    }
    let bad_layout = || violation("invalid startup packet layout: expected terminator as last byte").fatal();
    let mut body = Body::new(packet);
    body.u32()?;
    let mut user = None;
    let mut database = None;
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut unknown = Vec::new();
    let mut seen = HashSet::new();
    loop {
        let name = body.text().map_err(|_| bad_layout())?;
        if name.is_empty() {
            break;
        }
        let value = body.text().map_err(|_| bad_layout())?.to_string();
        match name {
            "user" => user = Some(value),
            "database" => database = Some(value),
            "replication" => {
                if !matches!(value.as_str(), "false" | "off" | "no" | "0") {
                    return Err(Error::unsupported(
                        "a replication connection",
                        "Read changes with queries over an ordinary connection.",
                    )
                    .fatal());
                }
            }
            name if name.starts_with("_pq_.") => {
                if seen.insert(name.to_string()) {
                    unknown.push(name.to_string());
                }
            }
            name => parameters.push((name.to_string(), value)),
        }
    }
    body.end().map_err(|_| bad_layout())?;
    let user = user.filter(|user| !user.is_empty()).ok_or_else(|| {
        Error::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "no PostgreSQL user name specified in startup packet",
        )
        .fatal()
    })?;
    let database = database.filter(|database| !database.is_empty()).unwrap_or_else(|| user.clone());
    Ok(Request { minor, startup: Startup { user, database, peer, parameters }, unknown })
}
