//! TLS of this server: its settings as material, renewed when they change and when the files do.

use crate::net::tls::{ClientAuth, Identity, Material};
use crate::server::Server;
use crate::server::config::{Config, TlsAuthClients};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Seconds between two looks at the files.
const LOOK_SECONDS: u64 = 10;

/// Every directive that a new context is built for.
pub const DIRECTIVES: &[&str] = &[
    "tls-port",
    "tls-cert-file",
    "tls-key-file",
    "tls-key-file-pass",
    "tls-client-cert-file",
    "tls-client-key-file",
    "tls-client-key-file-pass",
    "tls-ca-cert-file",
    "tls-ca-cert-dir",
    "tls-auth-clients",
    "tls-replication",
    "tls-cluster",
    "tls-protocols",
    "tls-ciphers",
    "tls-ciphersuites",
    "tls-prefer-server-ciphers",
    "tls-session-caching",
    "tls-session-cache-size",
    "tls-session-cache-timeout",
];

/// Whether anything of this server speaks TLS.
pub fn is_on(config: &Config) -> bool {
    config.tls_port != 0 || config.tls_replication || config.tls_cluster
}

/// Puts the first contexts in place; from then on they follow the settings and the files.
pub fn start(server: &'static Server) -> Result<(), String> {
    let config = server.config.current();
    if is_on(&config) {
        renew(server, &config).map_err(|_| "Failed to configure TLS. Check logs for more info.\n".to_owned())?;
    }
    server.config.on_apply(DIRECTIVES, Box::new(|_, new| if is_on(new) { renew(server, new) } else { Ok(()) }));
    Ok(())
}

fn renew(server: &Server, config: &Config) -> Result<(), String> {
    server.tls.renew(&material(config)).map_err(|reason| {
        tracing::warn!("{reason}");
        "Unable to update TLS configuration. Check server logs.".into()
    })
}

/// Certificates are replaced on disk before they end: new connections get the new ones without a restart.
pub async fn follow_files(server: &'static Server) {
    let mut seen = stamps(&server.config.current());
    loop {
        tokio::time::sleep(Duration::from_secs(LOOK_SECONDS)).await;
        let config = server.config.current();
        if !is_on(&config) {
            continue;
        }
        let now = stamps(&config);
        // Half-written files fail and are tried again with the next change.
        if now != seen && renew(server, &config).is_ok() {
            tracing::info!("TLS certificates have changed on disk and were loaded again");
        }
        seen = now;
    }
}

type Stamps = Vec<(PathBuf, Option<SystemTime>)>;

fn stamps(config: &Config) -> Stamps {
    let stamp = |path: PathBuf| {
        let modified = std::fs::metadata(&path).and_then(|metadata| metadata.modified()).ok();
        (path, modified)
    };
    material(config).files().into_iter().map(stamp).collect()
}

fn material(config: &Config) -> Material {
    let identity = |cert: &Option<String>, key: &Option<String>, password: &Option<String>| {
        let cert_file = cert.clone().filter(|text| !text.is_empty())?;
        let key_file = key.clone().filter(|text| !text.is_empty())?;
        Some(Identity { cert_file, key_file, key_password: password.clone() })
    };
    let named = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    Material {
        server: identity(&config.tls_cert_file, &config.tls_key_file, &config.tls_key_file_pass),
        client: identity(&config.tls_client_cert_file, &config.tls_client_key_file, &config.tls_client_key_file_pass),
        ca_file: named(&config.tls_ca_cert_file),
        ca_dir: named(&config.tls_ca_cert_dir),
        client_auth: match config.tls_auth_clients {
            TlsAuthClients::Yes => ClientAuth::Required,
            TlsAuthClients::Optional => ClientAuth::Optional,
            TlsAuthClients::No => ClientAuth::Unasked,
        },
        protocols: named(&config.tls_protocols),
        ciphers: named(&config.tls_ciphers),
        ciphersuites: named(&config.tls_ciphersuites),
        prefer_server_ciphers: config.tls_prefer_server_ciphers,
        session_caching: config.tls_session_caching,
        session_cache_size: config.tls_session_cache_size as usize,
        session_cache_timeout: Duration::from_secs(u64::from(config.tls_session_cache_timeout)),
    }
}
