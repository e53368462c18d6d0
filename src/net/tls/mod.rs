//! TLS through rustls: what the server offers and demands, and what it shows when it dials itself.
//!
//! ```text
//!   PEM files ─► Material::build ─► Contexts ─┬─► server: every accepted connection of tls-port
//!   (settings)     │ an error changes nothing └─► client: links that this server opens (tls-replication)
//!                  └ certificates' ends ─► INFO
//! ```
//! Differences from OpenSSL, which Redis uses: TLS 1.2 and 1.3 only, the suites with forward secrecy only, no
//! finite-field Diffie-Hellman. As in Redis, links that this server opens check the chain of the peer, not its name.
//! Certificates of version 1 count (`verify`).

mod ciphers;
mod pem;
mod records;
mod resumption;
mod stream;
mod verify;

pub use pem::CertFacts;
pub use stream::{Session, TlsStream};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::crypto::CryptoProvider;
use rustls::sign::SingleCertAndKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use verify::Trust;

/// Whether clients have to show a certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientAuth {
    #[default]
    Required,
    Optional,
    Unasked,
}

/// A certificate with its key, as the settings name them.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    pub cert_file: String,
    pub key_file: String,
    pub key_password: Option<String>,
}

/// All that the settings say of TLS.
#[derive(Clone, Debug, Default)]
pub struct Material {
    pub server: Option<Identity>,
    /// Shown to others; by default the server's.
    pub client: Option<Identity>,
    pub ca_file: Option<String>,
    pub ca_dir: Option<String>,
    pub client_auth: ClientAuth,
    pub protocols: Option<String>,
    pub ciphers: Option<String>,
    pub ciphersuites: Option<String>,
    pub prefer_server_ciphers: bool,
    pub session_caching: bool,
    pub session_cache_size: usize,
    pub session_cache_timeout: Duration,
}

/// What is in use. Connections that stand keep what they began with.
#[derive(Default)]
pub struct Contexts {
    server: ArcSwapOption<ServerConfig>,
    client: ArcSwapOption<ClientConfig>,
    facts: ArcSwap<Facts>,
}

/// What INFO tells of the certificates in use.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub server: Option<CertFacts>,
    pub client: Option<CertFacts>,
    pub ca: Option<CertFacts>,
}

impl Contexts {
    pub fn server(&self) -> Option<Arc<ServerConfig>> {
        self.server.load_full()
    }

    pub fn client(&self) -> Option<Arc<ClientConfig>> {
        self.client.load_full()
    }

    pub fn facts(&self) -> Arc<Facts> {
        self.facts.load_full()
    }

    /// Builds everything anew and puts it in place; on an error what was in use stays.
    pub fn renew(&self, material: &Material) -> Result<(), String> {
        let built = material.build()?;
        self.server.store(Some(Arc::new(built.server)));
        self.client.store(Some(Arc::new(built.client)));
        self.facts.store(Arc::new(built.facts));
        Ok(())
    }
}

struct Built {
    server: ServerConfig,
    client: ClientConfig,
    facts: Facts,
}

impl Material {
    /// Every file that counts: when one changes, what was built from it is stale.
    pub fn files(&self) -> Vec<PathBuf> {
        let identities = self.server.iter().chain(&self.client);
        let mut files: Vec<PathBuf> = identities
            .flat_map(|identity| [PathBuf::from(&identity.cert_file), PathBuf::from(&identity.key_file)])
            .collect();
        files.extend(self.ca_file.iter().map(PathBuf::from));
        files.extend(self.ca_dir.iter().map(PathBuf::from));
        files
    }

    fn build(&self) -> Result<Built, String> {
        let Some(identity) = &self.server else {
            return Err("No tls-cert-file or no tls-key-file configured!".into());
        };
        let (versions, provider) = (self.versions()?, Arc::new(self.provider()?));
        let trust = self.trust()?;
        if trust.authorities.is_empty() && self.client_auth != ClientAuth::Unasked {
            return Err("Either tls-ca-cert-file or tls-ca-cert-dir must be specified when tls-cluster, \
                        tls-replication or tls-auth-clients are enabled!"
                .into());
        }
        let own = pem::certified_key(identity, &provider)?;
        let shown = self.client.as_ref().unwrap_or(identity);
        let shown_key = pem::certified_key(shown, &provider)?;
        let facts = Facts {
            server: own.cert.first().and_then(|cert| CertFacts::of(cert)),
            client: shown_key.cert.first().and_then(|cert| CertFacts::of(cert)),
            ca: trust.authorities.first().and_then(|cert| CertFacts::of(cert)),
        };
        let server = self.server_config(&versions, &provider, &trust, own)?;
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verify::Servers::new(&trust, &provider)?))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown_key)));
        Ok(Built { server, client, facts })
    }

    fn server_config(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        provider: &Arc<CryptoProvider>,
        trust: &Trust,
        key: rustls::sign::CertifiedKey,
    ) -> Result<ServerConfig, String> {
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = if self.client_auth == ClientAuth::Unasked {
            builder.with_no_client_auth()
        } else {
            let is_optional = self.client_auth == ClientAuth::Optional;
            builder.with_client_cert_verifier(Arc::new(verify::Clients::new(trust, provider, is_optional)?))
        };
        let mut config = builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.ignore_client_order = self.prefer_server_ciphers;
        if self.session_caching {
            let size = if self.session_cache_size == 0 { UNLIMITED_SESSIONS } else { self.session_cache_size };
            config.session_storage = resumption::Sessions::new(size, self.session_cache_timeout);
        } else {
            config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(config)
    }

    /// What `tls-protocols` allows of what there is.
    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
        let Some(text) = self.protocols.as_deref().filter(|text| !text.trim().is_empty()) else {
            return Ok(vec![&TLS13, &TLS12]);
        };
        let mut versions: Vec<&'static SupportedProtocolVersion> = Vec::new();
        for word in text.split_whitespace() {
            match word.to_ascii_lowercase().as_str() {
                "tlsv1.3" => versions.push(&TLS13),
                "tlsv1.2" => versions.push(&TLS12),
                // Known to Redis; too weak to be offered here.
                "tlsv1" | "tlsv1.1" => {}
                _ => {
                    return Err("Invalid tls-protocols specified. Use a combination of 'TLSv1', 'TLSv1.1', 'TLSv1.2' \
                                and 'TLSv1.3'."
                        .into());
                }
            }
        }
        if versions.is_empty() {
            return Err("tls-protocols names only versions that are not offered here: use TLSv1.2 or TLSv1.3".into());
        }
        Ok(versions)
    }

    fn provider(&self) -> Result<CryptoProvider, String> {
        let mut provider = rustls::crypto::ring::default_provider();
        ciphers::restrict(&mut provider.cipher_suites, self.ciphers.as_deref(), self.ciphersuites.as_deref())?;
        Ok(provider)
    }

    fn trust(&self) -> Result<Trust, String> {
        let (mut roots, mut authorities) = (RootCertStore::empty(), Vec::new());
        let mut files: Vec<PathBuf> = self.ca_file.iter().map(PathBuf::from).collect();
        if let Some(dir) = &self.ca_dir {
            let entries = std::fs::read_dir(dir).map_err(|error| format!("Failed to read {dir}: {error}"))?;
            files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()).filter(|path| path.is_file()));
        }
        for (index, file) in files.iter().enumerate() {
            let is_named = index == 0 && self.ca_file.is_some();
            match pem::certificates(file) {
                Ok(certs) => {
                    for cert in certs {
                        roots.add(cert.clone()).map_err(|error| format!("{}: {error}", file.display()))?;
                        authorities.push(cert);
                    }
                }
                Err(error) if is_named => return Err(error),
                // A directory of certificates may hold other files (keys, revocation lists).
                Err(_) => {}
            }
        }
        Ok(Trust { roots: Arc::new(roots), authorities })
    }
}

/// `tls-session-cache-size 0` means no limit; this is as good as none.
const UNLIMITED_SESSIONS: usize = 1 << 20;

#[cfg(test)]
mod tests;
