//! TLS on the client's side: what each sslmode checks, and the hash that SCRAM binds to.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::target::{SslMode, Target};

/// A connection that is about to shake hands. The error is for people.
pub fn client(target: &Target, mode: SslMode, name: &str) -> Result<ClientConnection, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    // As libpq: `require` with a root certificate at hand checks the chain too.
    let chain = match (mode, &target.root_certificate) {
        (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
            return Err("sslmode=verify-ca and verify-full need the root certificates: name the file with sslrootcert".to_owned());
        }
        (SslMode::Prefer, _) | (_, None) => None,
        (_, Some(file)) => {
            let failed = |error: &dyn std::fmt::Display| {
                format!("could not read root certificate file \"{}\": {error}", file.display())
            };
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| failed(&error))? {
                roots.add(certificate.map_err(|error| failed(&error))?).map_err(|error| failed(&error))?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map_err(|error| failed(&error))?;
            Some(verifier)
        }
    };
    let verifier = Verifier { provider: provider.clone(), chain, name: mode == SslMode::VerifyFull };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| format!("\"{name}\" is not a name that a certificate can have"))?;
    ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())
}

/// What libpq's modes ask for: nothing, the chain, or the chain and the name. The handshake's signature is checked always.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    chain: Option<Arc<WebPkiServerVerifier>>,
    name: bool,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(
                rustls::CertificateError::NotValidForName
                | rustls::CertificateError::NotValidForNameContext { .. },
            )) if !self.name => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// tls-server-end-point (RFC 5929): the certificate hashed with its signature's hash function, SHA-256 in place of MD5 and SHA-1.
/// `None` when the signature algorithm has no hash function of its own (Ed25519) or is not known.
pub fn binding_hash(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    // Certificate ::= SEQUENCE { tbsCertificate SEQUENCE, signatureAlgorithm SEQUENCE { algorithm OID, .. }, .. }
    let (body, _) = element(certificate, 0x30)?;
    let (_, after) = element(body, 0x30)?;
    let (algorithm, _) = element(after, 0x30)?;
    let (oid, parameters) = element(algorithm, 0x06)?;
    let hash = |name: &str| -> Option<Vec<u8>> {
        Some(match name {
            "256" => Sha256::digest(certificate).to_vec(),
            "384" => Sha384::digest(certificate).to_vec(),
            _ => Sha512::digest(certificate).to_vec(),
        })
    };
    // 1.2.840.113549.1.1.x (RSA), 1.2.840.10045.4.x (ECDSA).
    match oid {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, last] => match last {
            4 | 5 | 11 => hash("256"),
            12 => hash("384"),
            13 => hash("512"),
            // RSA-PSS names its hash in the parameters, as the last byte of 2.16.840.1.101.3.4.2.x.
            10 => {
                let prefix = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02];
                let place = parameters.windows(prefix.len()).position(|window| window == prefix)?;
                match parameters.get(place + prefix.len())? {
                    1 => hash("256"),
                    2 => hash("384"),
                    3 => hash("512"),
                    _ => None,
                }
            }
            _ => None,
        },
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] => hash("256"),
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, last] => match last {
            2 => hash("256"),
            3 => hash("384"),
            4 => hash("512"),
            _ => None,
        },
        _ => None,
    }
}

/// The content of a DER element of that tag, and what comes behind it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, rest) = if *length < 0x80 {
        (usize::from(*length), rest)
    } else {
        let count = usize::from(length & 0x7f);
        if count > 4 || count > rest.len() {
            return None;
        }
        let (digits, rest) = rest.split_at(count);
        (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
    };
    (length <= rest.len()).then(|| rest.split_at(length))
}
