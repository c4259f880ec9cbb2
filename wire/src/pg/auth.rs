//! Who may come in, and how they prove who they are.
//!
//! Rules in the manner of pg_hba: the first that fits the kind of connection, database, role and address
//! decides; none fits: refused. SCRAM-SHA-256 is pgwire's state machine fed with verifiers. A role that does not
//! exist, has no password or an expired one walks the same road with a salt made from the installation's
//! secret, so that neither bytes nor time tell it apart.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use pgwire::api::auth::sasl::scram::{ScramSecret, ScramServerAuth};
use pgwire::error::PgWireError;
use pgwire::messages::startup::Authentication;
use session::{Database, Login, Peer};
use sha2::{Digest, Sha256};
use value::{Error, Result, SqlState};

use super::encode;
use super::frame::{Body, Stage, violation};
use super::stream::{End, Link};

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// Which connections a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Unix-domain socket.
    Local,
    /// TCP with or without TLS.
    Host,
    HostSsl,
    HostNoSsl,
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    Scram,
    /// No proof at all. Never among the defaults.
    Trust,
    Reject,
}

/// An address range: the leading `bits` of `address` must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    pub address: IpAddr,
    pub bits: u8,
}

impl Network {
    fn contains(&self, peer: IpAddr) -> bool {
        let (network, peer, width) = match (self.address, peer) {
            (IpAddr::V4(network), IpAddr::V4(peer)) => {
                (u128::from(u32::from(network)), u128::from(u32::from(peer)), 32)
            }
            (IpAddr::V6(network), IpAddr::V6(peer)) => (u128::from(network), u128::from(peer), 128),
            _ => return false,
        };
        let ignored = width - u32::from(self.bits).min(width);
        // A shift by the whole width is not defined: no bit counts then.
        ignored == 128 || network >> ignored == peer >> ignored
    }

    /// `127.0.0.1/32`, `::/0`, or an address alone.
    fn parse(text: &str) -> Option<Network> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(width);
        (bits <= width).then_some(Network { address, bits })
    }
}

/// One line of the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub kind: Kind,
    /// Names that fit; empty: all. `sameuser` stands for the database named like the role.
    pub databases: Vec<String>,
    /// Names that fit; empty: all.
    pub roles: Vec<String>,
    /// `None`: every address.
    pub network: Option<Network>,
    pub method: Method,
}

impl Rule {
    /// Scram on the Unix socket and the loopback addresses; TLS and SCRAM from everywhere else.
    pub fn defaults() -> Vec<Rule> {
        [
            "local all all scram-sha-256",
            "host all all 127.0.0.0/8 scram-sha-256",
            "host all all ::1/128 scram-sha-256",
            "hostssl all all all scram-sha-256",
        ]
        .iter()
        .map(|line| Rule::parse(line).expect("the default rules are well formed"))
        .collect()
    }

    /// Reads a line of pg_hba: `TYPE DATABASE[,..] ROLE[,..] [ADDRESS] METHOD`. F0000 says what is wrong.
    pub fn parse(line: &str) -> Result<Rule> {
        let wrong = |what: String| {
            Error::new(SqlState::CONFIG_FILE_ERROR, format!("authentication rule \"{line}\": {what}"))
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let kind = match words.first() {
            Some(&"local") => Kind::Local,
            Some(&"host") => Kind::Host,
            Some(&"hostssl") => Kind::HostSsl,
            Some(&"hostnossl") => Kind::HostNoSsl,
            other => {
                return Err(wrong(format!("invalid connection type \"{}\"", other.unwrap_or(&""))));
            }
        };
        let (databases, roles, address, method) = match (kind, words.as_slice()) {
            (Kind::Local, [_, databases, roles, method]) => (databases, roles, "all", method),
            (Kind::Host | Kind::HostSsl | Kind::HostNoSsl, [_, databases, roles, address, method]) => {
                (databases, roles, *address, method)
            }
            _ => return Err(wrong("wrong number of fields".to_string())),
        };
        let names = |list: &str| -> Vec<String> {
            if list == "all" {
                Vec::new()
            } else {
                list.split(',').map(|name| name.trim_matches('"').to_string()).collect()
            }
        };
        let network = match address {
            "all" => None,
            text => Some(Network::parse(text).ok_or_else(|| wrong(format!("invalid address \"{text}\"")))?),
        };
        let method = match *method {
            "scram-sha-256" => Method::Scram,
            "trust" => Method::Trust,
            "reject" => Method::Reject,
            other => {
                return Err(wrong(format!(
                    "authentication method \"{other}\" is not supported; use scram-sha-256, trust or reject"
                )));
            }
        };
        Ok(Rule { kind, databases: names(databases), roles: names(roles), network, method })
    }

    fn fits(&self, peer: &Peer, role: &str, database: &str) -> bool {
        let kind_fits = match (self.kind, peer) {
            (Kind::Local, Peer::Unix | Peer::Internal) => true,
            (Kind::Host, Peer::Tcp { .. }) => true,
            (Kind::HostSsl, Peer::Tcp { tls, .. }) => *tls,
            (Kind::HostNoSsl, Peer::Tcp { tls, .. }) => !*tls,
            _ => false,
        };
        let address_fits = match (self.network, peer) {
            (None, _) => true,
            (Some(network), Peer::Tcp { address, .. }) => network.contains(*address),
            (Some(_), _) => false,
        };
        let database_fits = self.databases.is_empty()
            || self.databases.iter().any(|name| name == database || (name == "sameuser" && database == role));
        let role_fits = self.roles.is_empty() || self.roles.iter().any(|name| name == role);
        kind_fits && address_fits && database_fits && role_fits
    }
}

/// What the first fitting rule asks for. 28000 when none fits or it says no.
pub fn method(rules: &[Rule], peer: &Peer, role: &str, database: &str) -> Result<Method> {
    let found = rules.iter().find(|rule| rule.fits(peer, role, database)).map(|rule| rule.method);
    let refuse = |what: &str| {
        let (host, encryption) = match peer {
            Peer::Tcp { address, tls, .. } => {
                (address.to_string(), if *tls { "SSL encryption" } else { "no encryption" })
            }
            Peer::Unix | Peer::Internal => ("[local]".to_string(), "no encryption"),
        };
        let message =
            format!("{what} host \"{host}\", user \"{role}\", database \"{database}\", {encryption}");
        let error = Error::new(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, message).fatal();
        match peer {
            Peer::Tcp { tls: false, .. } => {
                error.hint("Connections from other hosts need TLS: connect with sslmode=require.")
            }
            _ => error,
        }
    };
    match found {
        Some(Method::Reject) => Err(refuse("pg_hba.conf rejects connection for")),
        Some(method) => Ok(method),
        None => Err(refuse("no pg_hba.conf entry for")),
    }
}

/// 28P01, the same for every reason.
fn password_error(role: &str) -> Error {
    Error::new(SqlState::INVALID_PASSWORD, format!("password authentication failed for user \"{role}\""))
        .fatal()
}

/// Reads `SCRAM-SHA-256$<iterations>:<salt>$<stored key>:<server key>`.
fn parse_verifier(text: &str) -> Option<ScramSecret> {
    let rest = text.strip_prefix("SCRAM-SHA-256$")?;
    let (iterations, rest) = rest.split_once(':')?;
    let (salt, rest) = rest.split_once('$')?;
    let (stored_key, server_key) = rest.split_once(':')?;
    let key = |text: &str| STANDARD.decode(text).ok().filter(|key| key.len() == 32);
    Some(ScramSecret::Verifier {
        salt: STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?,
        iterations: iterations.parse().ok().filter(|count| *count > 0)?,
        stored_key: key(stored_key)?,
        server_key: key(server_key)?,
    })
}

/// A verifier that no password fits, in text form; the salt is always the same for a name.
fn mock_verifier(installation_secret: &[u8; 32], role: &str, iterations: usize) -> String {
    let derive = |purpose: &[u8]| -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(installation_secret);
        hash.update(purpose);
        hash.update(role.as_bytes());
        hash.finalize().to_vec()
    };
    let mut salt = derive(b"mock salt");
    salt.truncate(16);
    // Nobody knows a preimage of this stored key, so no proof can fit.
    let (stored_key, server_key) = (derive(b"mock stored key"), derive(b"mock server key"));
    let encode = |bytes: &[u8]| STANDARD.encode(bytes);
    format!("SCRAM-SHA-256${iterations}:{}${}:{}", encode(&salt), encode(&stored_key), encode(&server_key))
}

/// The SCRAM exchange. `scram` carries the certificate when the connection is TLS. Errors: 28P01 for any wrong
/// proof, 28000 and 08P01 for a client that breaks the protocol; all end the connection.
pub async fn scram(
    link: &mut Link,
    database: &dyn Database,
    role: &str,
    login: Option<&Login>,
    scram: &ScramServerAuth,
    mock_iterations: usize,
) -> Result<(), End> {
    // Made and read in every case, so that it takes the same time.
    let mock = mock_verifier(&database.installation_secret(), role, mock_iterations);
    let verifier = login.filter(|login| !login.expired).and_then(|login| login.verifier.as_deref());
    let secret = match parse_verifier(verifier.unwrap_or(&mock)).or_else(|| parse_verifier(&mock)) {
        Some(secret) => secret,
        None => return Err(End::Fatal(Error::internal("a mock verifier could not be read").fatal())),
    };

    let binds = scram.supports_channel_binding();
    let mechanisms = if binds { vec![PLUS.to_string(), PLAIN.to_string()] } else { vec![PLAIN.to_string()] };
    send(link, Authentication::SASL(mechanisms))?;

    let frame = link.frame(Stage::Authentication).await?;
    let mut body = Body::new(&frame.body);
    let mechanism = body.text().map_err(End::Fatal)?;
    let length = body.u32().map_err(End::Fatal)? as i32;
    let first = match usize::try_from(length) {
        Ok(length) => body.bytes(length).map_err(End::Fatal)?,
        Err(_) => {
            return Err(End::Fatal(
                violation("malformed SCRAM message").detail("The message is empty.").fatal(),
            ));
        }
    };
    body.end().map_err(End::Fatal)?;
    check_binding_flag(mechanism, &first, binds).map_err(End::Fatal)?;
    let (server_first, state) = scram
        .on_client_first_message_with_secret(&first, secret)
        .map_err(|error| End::Fatal(scram_error(error, role)))?;
    send(link, Authentication::SASLContinue(server_first.into()))?;

    let frame = link.frame(Stage::Authentication).await?;
    let server_final =
        state.on_client_final_message(&frame.body).map_err(|error| End::Fatal(scram_error(error, role)))?;
    send(link, Authentication::SASLFinal(server_final.into()))
}

/// Puts an authentication message into the output; it leaves before the next read.
pub fn send(link: &mut Link, message: Authentication) -> Result<(), End> {
    encode::rare(&mut link.output.bytes, &message).map_err(End::Fatal)?;
    link.output.end_message();
    Ok(())
}

/// The mechanism named and the flag inside the client's first message must say the same about channel binding.
fn check_binding_flag(mechanism: &str, first: &[u8], binds: bool) -> Result<()> {
    let plus = match mechanism {
        PLAIN => false,
        PLUS if binds => true,
        _ => return Err(violation("client selected an invalid SASL authentication mechanism").fatal()),
    };
    match (first.first(), plus) {
        (Some(b'p'), true) | (Some(b'n'), false) => Ok(()),
        (Some(b'y'), false) if !binds => Ok(()),
        // The client can bind but believes that we cannot: somebody between us removed the offer.
        (Some(b'y'), false) => Err(Error::new(
            SqlState::INVALID_AUTHORIZATION_SPECIFICATION,
            "SCRAM channel binding negotiation error",
        )
        .detail("The client supports SCRAM channel binding but thinks the server does not.  However, this server does support channel binding.")
        .fatal()),
        (Some(b'n' | b'y'), true) => Err(violation("malformed SCRAM message")
            .detail("The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.")
            .fatal()),
        (Some(b'p'), false) => Err(violation("malformed SCRAM message")
            .detail("The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.")
            .fatal()),
        _ => Err(violation("malformed SCRAM message").fatal()),
    }
}

fn scram_error(error: PgWireError, role: &str) -> Error {
    match error {
        PgWireError::InvalidPassword(_) => password_error(role),
        // The detail is about the client's own message and holds nothing of ours.
        other => violation("malformed SCRAM message").detail(other.to_string()).fatal(),
    }
}

/// What still has to hold after the proof. 28000.
pub fn admit(role: &str, login: Option<&Login>) -> Result<()> {
    let refuse =
        |message: String| Err(Error::new(SqlState::INVALID_AUTHORIZATION_SPECIFICATION, message).fatal());
    match login {
        None => refuse(format!("role \"{role}\" does not exist")),
        Some(login) if !login.can_login => refuse(format!("role \"{role}\" is not permitted to log in")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str, tls: bool) -> Peer {
        Peer::Tcp { address: address.parse().expect("address"), port: 1, tls }
    }

    #[test]
    fn the_first_fitting_rule_decides() {
        let defaults = Rule::defaults();
        for (peer, expected) in [
            (Peer::Unix, Ok(Method::Scram)),
            (tcp("127.0.0.1", false), Ok(Method::Scram)),
            (tcp("127.9.0.1", true), Ok(Method::Scram)),
            (tcp("::1", false), Ok(Method::Scram)),
            (tcp("10.0.0.7", true), Ok(Method::Scram)),
            (tcp("2001:db8::1", true), Ok(Method::Scram)),
            (
                tcp("10.0.0.7", false),
                Err("no pg_hba.conf entry for host \"10.0.0.7\", user \"u\", database \"d\", no encryption"),
            ),
        ] {
            let found = method(&defaults, &peer, "u", "d").map_err(|error| error.message().to_string());
            assert_eq!(
                found.as_ref().map_err(String::as_str),
                expected.as_ref().map_err(|text| *text),
                "{peer:?}"
            );
        }
        let rules: Vec<Rule> = [
            "hostnossl all all all reject",
            "host sameuser bob,eve 10.0.0.0/9 trust",
            "local all all trust",
            "host all all ::/0 trust",
        ]
        .iter()
        .map(|line| Rule::parse(line).expect(line))
        .collect();
        for (peer, role, database, expected) in [
            (tcp("10.127.255.255", true), "bob", "bob", Some(Method::Trust)),
            (tcp("10.128.0.0", true), "bob", "bob", None),
            (tcp("10.0.0.1", true), "bob", "other", None),
            (tcp("10.0.0.1", true), "al", "al", None),
            (tcp("10.0.0.1", false), "bob", "bob", None),
            (tcp("fe80::1", true), "al", "x", Some(Method::Trust)),
            (Peer::Unix, "al", "x", Some(Method::Trust)),
        ] {
            assert_eq!(method(&rules, &peer, role, database).ok(), expected, "{peer:?} {role} {database}");
        }
        for line in [
            "",
            "host all all md5",
            "local all all md5",
            "host all all 1.2.3.4/33 trust",
            "hostgss all all all trust",
        ] {
            assert!(Rule::parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn verifiers_are_read_strictly() {
        let good = postgres_protocol::password::scram_sha_256(b"secret");
        assert!(parse_verifier(&good).is_some());
        for bad in [
            "",
            "md5abc",
            "SCRAM-SHA-256$0:c2FsdA==$AAAA:AAAA",
            &good[..good.len() - 8],
            &good.replace("4096", "x"),
        ] {
            assert!(parse_verifier(bad).is_none(), "{bad}");
        }
        let salt = |role| match parse_verifier(&mock_verifier(&[7; 32], role, 4096)) {
            Some(ScramSecret::Verifier { salt, .. }) => salt,
            _ => panic!("a verifier was expected"),
        };
        assert_eq!(salt("a"), salt("a"));
        assert_ne!(salt("a"), salt("b"));
        assert_eq!(salt("a").len(), 16);
    }
}
