//! Passwords become SCRAM-SHA-256 verifiers (RFC 5803) before anything is stored.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use value::{Error, Result, SqlState};

const ITERATIONS: u32 = 4096;

/// The verifier of a password; a text that is a verifier already is taken as it is, an md5 hash is refused.
pub fn verifier_of(password: &str) -> Result<String> {
    if is_verifier(password) {
        return Ok(password.to_string());
    }
    if password.len() == 35
        && password.starts_with("md5")
        && password[3..].bytes().all(|b| b.is_ascii_hexdigit())
    {
        return Err(Error::unsupported(
            "an MD5 password",
            "Give the password in clear text or as a SCRAM-SHA-256 verifier.",
        ));
    }
    if password.is_empty() {
        return Err(Error::new(SqlState::INVALID_PARAMETER_VALUE, "empty string is not a valid password"));
    }
    let salt: [u8; 16] = rand::random();
    Ok(derive(password, &salt, ITERATIONS))
}

/// `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
pub fn is_verifier(text: &str) -> bool {
    let Some(rest) = text.strip_prefix("SCRAM-SHA-256$") else { return false };
    let Some((head, keys)) = rest.split_once('$') else { return false };
    let Some((iterations, salt)) = head.split_once(':') else { return false };
    let Some((stored, server)) = keys.split_once(':') else { return false };
    let key = |text: &str| STANDARD.decode(text).is_ok_and(|k| k.len() == 32);
    iterations.parse::<u32>().is_ok_and(|n| n > 0)
        && STANDARD.decode(salt).is_ok()
        && key(stored)
        && key(server)
}

fn derive(password: &str, salt: &[u8], iterations: u32) -> String {
    let prepared = stringprep::saslprep(password).map_or_else(|_| password.to_string(), |p| p.into_owned());
    let mut block = mac(prepared.as_bytes(), &[salt, &1u32.to_be_bytes()].concat());
    let mut salted = block;
    for _ in 1..iterations {
        block = mac(prepared.as_bytes(), &block);
        for (s, b) in salted.iter_mut().zip(block) {
            *s ^= b;
        }
    }
    let stored = Sha256::digest(mac(&salted, b"Client Key"));
    let server = mac(&salted, b"Server Key");
    format!(
        "SCRAM-SHA-256${iterations}:{}${}:{}",
        STANDARD.encode(salt),
        STANDARD.encode(stored),
        STANDARD.encode(server)
    )
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verifiers() {
        let verifier = verifier_of("secret").unwrap();
        assert!(is_verifier(&verifier), "{verifier}");
        assert_eq!(verifier_of(&verifier).unwrap(), verifier);
        assert!(!is_verifier("SCRAM-SHA-256$x"));
        assert!(verifier_of("md5d41d8cd98f00b204e9800998ecf8427e").is_err());
        // The example of RFC 7677: user "user", password "pencil".
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        assert!(derive("pencil", &salt, 4096).starts_with("SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"));
    }
}
