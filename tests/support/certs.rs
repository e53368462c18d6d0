//! Certificates for tests of TLS, made by openssl, and clients that use them.

use super::Server;
use super::server::free_port;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

/// A certificate authority, a server's certificate and a client's, made by openssl.
pub struct Certs(pub PathBuf);

impl Certs {
    pub fn make(name: &str) -> Certs {
        let dir = std::env::temp_dir().join(format!("rsredis-certs-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let certs = Certs(dir);
        certs.openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=Authority");
        certs.issue("redis", 20);
        certs.issue("client", 20);
        certs
    }

    /// As simple scripts do it: without extensions, which makes a certificate of version 1.
    pub fn issue(&self, name: &str, days: i32) {
        self.openssl(&format!(
            "req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /O=Test/CN={name}"
        ));
        std::fs::write(self.0.join("ext"), "keyUsage = digitalSignature, keyEncipherment\n").expect("written");
        let extensions = if name == "client" { "-extfile ext" } else { "" };
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.crt -days {days} {extensions}"
        ));
    }

    pub fn openssl(&self, line: &str) {
        let output =
            Command::new("openssl").args(line.split_whitespace()).current_dir(&self.0).output().expect("openssl");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    /// How a test's own client speaks TLS: it shows the client's certificate and believes any server.
    pub fn client_config(&self) -> Arc<ClientConfig> {
        let certs = CertificateDer::pem_file_iter(self.path("client.crt")).expect("a file");
        let key = PrivateKeyDer::from_pem_file(self.path("client.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Credulous(provider)))
            .with_client_auth_cert(certs.map(|cert| cert.expect("a certificate")).collect(), key);
        Arc::new(config.expect("a key that fits"))
    }

    /// A server that speaks TLS on the second port.
    pub fn serve(&self, more: &[&str]) -> (Server, u16) {
        let port = free_port();
        let (port_text, cert, key, ca) =
            (port.to_string(), self.path("redis.crt"), self.path("redis.key"), self.path("ca.crt"));
        let mut args =
            vec!["--tls-port", &port_text, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca];
        args.extend_from_slice(more);
        (Server::start(&args), port)
    }

    /// What redis-cli prints over TLS.
    pub fn cli(&self, port: u16, with_cert: bool, words: &[&str]) -> String {
        self.cli_as(port, with_cert.then_some("client"), words)
    }

    pub fn cli_as(&self, port: u16, cert: Option<&str>, words: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "--tls", "--cacert", &self.path("ca.crt")]);
        if let Some(name) = cert {
            command.args(["--cert", &self.path(&format!("{name}.crt")), "--key", &self.path(&format!("{name}.key"))]);
        }
        let output = command.args(words).output().expect("redis-cli");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        text.trim_end().to_owned()
    }
}

impl Drop for Certs {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Believes whatever a server shows.
#[derive(Debug)]
struct Credulous(Arc<CryptoProvider>);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
