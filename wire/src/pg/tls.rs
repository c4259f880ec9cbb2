//! TLS: the server's certificate, made on the first start when none is given, exchanged while running by
//! [`Tls::reload`]. TLS 1.2 and 1.3 with the ciphers of aws-lc; no session tickets (clients of databases keep
//! their connections, and tickets would outlive a changed certificate).

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::RwLock;
use pgwire::api::auth::sasl::scram::ScramServerAuth;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::NoServerSessionStorage;
use tokio_rustls::TlsAcceptor;
use value::{Error, Result, SqlState};

/// Names of the files that [`ensure_certificate`] makes.
const CERTIFICATE_FILE: &str = "server.crt";
const KEY_FILE: &str = "server.key";
/// The name that direct TLS must negotiate (ALPN).
pub const PROTOCOL: &[u8] = b"postgresql";

/// PEM files: the certificate with its chain, and its private key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

fn config_error(what: &str, path: &Path, error: impl std::fmt::Display) -> Error {
    Error::new(SqlState::CONFIG_FILE_ERROR, format!("{what} \"{}\": {error}", path.display()))
}

/// The certificate in `directory`; a self-signed one for localhost and this host is made when there is none.
/// The key file is readable by its owner alone. F0000 when the directory cannot be written.
pub fn ensure_certificate(directory: &Path) -> Result<Files> {
    let files = Files { certificate: directory.join(CERTIFICATE_FILE), key: directory.join(KEY_FILE) };
    if files.certificate.exists() && files.key.exists() {
        return Ok(files);
    }
    let mut names = vec!["localhost".to_string(), "127.0.0.1".to_string(), "::1".to_string()];
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // rcgen refuses names that are no ASCII DNS names; a certificate without this one still serves.
    if !host.is_empty()
        && host != "localhost"
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
    {
        names.push(host);
    }
    let made = rcgen::generate_simple_self_signed(names)
        .map_err(|error| config_error("could not make certificate", &files.certificate, error))?;
    // The key first: a certificate without its key would be taken for a pair on the next start.
    write_file(&files.key, made.signing_key.serialize_pem().as_bytes(), 0o600)?;
    write_file(&files.certificate, made.cert.pem().as_bytes(), 0o644)?;
    Ok(files)
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let failed = |error: std::io::Error| config_error("could not write file", path, error);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path).map_err(failed)?;
    // The mode above counts only for a new file.
    file.set_permissions(fs::Permissions::from_mode(mode)).map_err(failed)?;
    file.write_all(content).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// What one handshake needs; taken whole, so that a reload never mixes two certificates.
pub struct Current {
    pub acceptor: TlsAcceptor,
    /// SCRAM with channel binding to this certificate; without, if its signature algorithm has none defined.
    pub scram: ScramServerAuth,
}

/// The certificate in use.
pub struct Tls {
    files: Files,
    current: RwLock<Arc<Current>>,
}

impl Tls {
    /// F0000 for files that cannot be read, do not fit together, or a key that others may read.
    pub fn load(files: Files) -> Result<Tls> {
        let current = RwLock::new(Arc::new(load(&files)?));
        Ok(Tls { files, current })
    }

    pub fn current(&self) -> Arc<Current> {
        self.current.read().clone()
    }

    /// Reads the files again. On an error the old certificate stays in use.
    pub fn reload(&self) -> Result<()> {
        let fresh = Arc::new(load(&self.files)?);
        *self.current.write() = fresh;
        Ok(())
    }
}

fn load(files: &Files) -> Result<Current> {
    let key_failed =
        |error: &dyn std::fmt::Display| config_error("could not load private key file", &files.key, error);
    let mode = fs::metadata(&files.key).map_err(|error| key_failed(&error))?.permissions().mode();
    if mode & 0o037 != 0 {
        return Err(Error::new(
            SqlState::CONFIG_FILE_ERROR,
            format!("private key file \"{}\" has group or world access", files.key.display()),
        )
        .detail("File must have permissions u=rw (0600) or less if owned by the database user, or permissions u=rw,g=r (0640) or less if owned by root."));
    }
    let certificate_failed = |error: &dyn std::fmt::Display| {
        config_error("could not load server certificate file", &files.certificate, error)
    };
    let pem = fs::read(&files.certificate).map_err(|error| certificate_failed(&error))?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
        .collect::<std::result::Result<_, _>>()
        .map_err(|error| certificate_failed(&error))?;
    if chain.is_empty() {
        return Err(certificate_failed(&"no certificate found"));
    }
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| key_failed(&error))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|error| certificate_failed(&error))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| certificate_failed(&error))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    let mut scram = ScramServerAuth::new();
    if let Err(error) = scram.configure_certificate(&pem) {
        tracing::info!(%error, "the certificate's signature algorithm has no channel binding: SCRAM-SHA-256-PLUS is off");
    }
    Ok(Current { acceptor: TlsAcceptor::from(Arc::new(config)), scram })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_guarded() {
        let directory = tempfile::tempdir().expect("directory");
        let files = ensure_certificate(directory.path()).expect("made");
        let mode = fs::metadata(&files.key).expect("key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let before = fs::read(&files.certificate).expect("certificate");
        assert_eq!(ensure_certificate(directory.path()).expect("found"), files);
        assert_eq!(fs::read(&files.certificate).expect("certificate"), before);

        let tls = Tls::load(files.clone()).expect("loads");
        assert!(tls.current().scram.supports_channel_binding());
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o644)).expect("chmod");
        let error = tls.reload().expect_err("refused");
        assert_eq!(error.state(), SqlState::CONFIG_FILE_ERROR);
        fs::set_permissions(&files.key, fs::Permissions::from_mode(0o600)).expect("chmod");
        fs::write(&files.certificate, b"nonsense").expect("write");
        assert!(tls.reload().is_err());
    }
}
