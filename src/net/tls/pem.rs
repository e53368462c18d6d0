//! Certificates and keys out of PEM files.

use super::Identity;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::path::Path;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What is told of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFacts {
    /// Common name of its subject.
    pub common_name: Option<String>,
    /// Serial number, hexadecimal.
    pub serial: String,
    /// Last second of its validity, Unix time.
    pub expires_at_s: i64,
}

impl CertFacts {
    pub fn of(cert: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(cert).ok()?;
        let common_name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Some(CertFacts {
            common_name: common_name.map(str::to_owned),
            serial: format!("{:X}", parsed.serial),
            expires_at_s: parsed.validity().not_after.timestamp(),
        })
    }
}

/// All certificates of a file; none is an error.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let fail = |reason: String| format!("Failed to load certificate: {}: {reason}", file.display());
    let found: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(file).map_err(|error| fail(error.to_string()))?.collect();
    let certs = found.map_err(|error| fail(error.to_string()))?;
    if certs.is_empty() {
        return Err(fail("no certificate in it".into()));
    }
    Ok(certs)
}

/// A chain with the key that belongs to it.
pub fn certified_key(identity: &Identity, provider: &CryptoProvider) -> Result<CertifiedKey, String> {
    let chain = certificates(Path::new(&identity.cert_file))?;
    let fail = |reason: String| format!("Failed to load private key: {}: {reason}", identity.key_file);
    let key = private_key(&identity.key_file, identity.key_password.as_deref()).map_err(fail)?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| fail(error.to_string()))?;
    // Not `keys_match`, which refuses certificates of version 1: simple scripts make them, and OpenSSL shows them.
    let leaf = chain.first().and_then(|cert| X509Certificate::from_der(cert).ok());
    let (_, leaf) = leaf.ok_or_else(|| format!("Failed to load certificate: {}: not X.509", identity.cert_file))?;
    match key.public_key() {
        Some(public) if public.as_ref() != leaf.public_key().raw => Err(fail("key values mismatch".into())),
        _ => Ok(CertifiedKey::new(chain, key)),
    }
}

fn private_key(file: &str, password: Option<&str>) -> Result<PrivateKeyDer<'static>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
    if !text.contains("BEGIN ENCRYPTED PRIVATE KEY") {
        if text.contains("Proc-Type: 4,ENCRYPTED") {
            return Err("keys encrypted the old way are not read: convert it with 'openssl pkcs8 -topk8'".into());
        }
        return PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|error| error.to_string());
    }
    let password = password.ok_or("it is encrypted, and there is no tls-key-file-pass")?;
    let (_, document) = pkcs8::SecretDocument::from_pem(&text).map_err(|error| error.to_string())?;
    let encrypted = pkcs8::EncryptedPrivateKeyInfo::try_from(document.as_bytes()).map_err(|error| error.to_string())?;
    let plain = encrypted.decrypt(password).map_err(|error| error.to_string())?;
    Ok(PrivatePkcs8KeyDer::from(plain.as_bytes().to_vec()).into())
}
