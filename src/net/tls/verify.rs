//! Checking peers. Two things differ from what rustls does by itself, because Redis's users rely on them:
//!
//! - A server that we dial is known by its chain, not by its name: nodes have addresses, not names.
//! - Certificates of version 1 count, if a trusted authority has signed them itself: `openssl x509 -req` without
//!   extensions makes them, and so do the scripts with which people set Redis up. They are checked here; webpki refuses
//!   to read them.

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};
use std::sync::Arc;
use x509_parser::prelude::{ASN1Time, FromDer, X509Certificate, X509Version};

/// The trusted certificates, in the forms that both ways of checking need.
#[derive(Debug)]
pub struct Trust {
    pub roots: Arc<RootCertStore>,
    pub authorities: Vec<CertificateDer<'static>>,
}

/// Checks of version 1 certificates.
#[derive(Debug)]
struct Version1 {
    authorities: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Version1 {
    fn new(trust: &Trust, provider: &CryptoProvider) -> Self {
        let algorithms = provider.signature_verification_algorithms;
        Version1 { authorities: trust.authorities.clone(), algorithms }
    }

    /// Valid now, and signed by somebody who is trusted.
    fn check(&self, leaf: &X509Certificate<'_>, now: UnixTime) -> Result<(), Error> {
        let fail = |error| Err(Error::InvalidCertificate(error));
        let now = ASN1Time::from_timestamp(now.as_secs() as i64).map_err(|_| Error::FailedToGetCurrentTime)?;
        if now < leaf.validity().not_before {
            return fail(CertificateError::NotValidYet);
        }
        if now > leaf.validity().not_after {
            return fail(CertificateError::Expired);
        }
        let is_signed = self.authorities.iter().any(|authority| {
            X509Certificate::from_der(authority).is_ok_and(|(_, authority)| {
                authority.subject().as_raw() == leaf.issuer().as_raw()
                    && authority.validity().not_after >= now
                    && leaf.verify_signature(Some(authority.public_key())).is_ok()
            })
        });
        if is_signed { Ok(()) } else { fail(CertificateError::UnknownIssuer) }
    }

    /// The peer has the key of its certificate, in whichever version of TLS; `otherwise` tells for certificates that are not of version 1.
    fn check_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
        otherwise: impl FnOnce() -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(leaf) = version_1(cert) else { return otherwise() };
        let key = &leaf.public_key().subject_public_key.data;
        let is_good = self
            .algorithms
            .mapping
            .iter()
            .filter(|(scheme, _)| *scheme == signed.scheme)
            .flat_map(|(_, algorithms)| algorithms.iter())
            .any(|algorithm| algorithm.verify_signature(key, message, signed.signature()).is_ok());
        if is_good {
            Ok(HandshakeSignatureValid::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::BadSignature))
        }
    }
}

/// The certificate, if it is of version 1.
fn version_1<'a>(cert: &'a CertificateDer<'_>) -> Option<X509Certificate<'a>> {
    let (_, parsed) = X509Certificate::from_der(cert).ok()?;
    (parsed.version() == X509Version::V1).then_some(parsed)
}

/// Checks a server that we dial. Without trusted certificates nobody is believed.
#[derive(Debug)]
pub struct Servers {
    chain: Option<Arc<WebPkiServerVerifier>>,
    version_1: Version1,
}

impl Servers {
    pub fn new(trust: &Trust, provider: &Arc<CryptoProvider>) -> Result<Self, String> {
        let chain = if trust.roots.is_empty() {
            None
        } else {
            let verifier = WebPkiServerVerifier::builder_with_provider(trust.roots.clone(), provider.clone()).build();
            Some(verifier.map_err(|error| error.to_string())?)
        };
        Ok(Servers { chain, version_1: Version1::new(trust, provider) })
    }

    fn chain(&self) -> Result<&WebPkiServerVerifier, Error> {
        self.chain.as_deref().ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(leaf) = version_1(end_entity) {
            return self.version_1.check(&leaf, now).map(|()| ServerCertVerified::assertion());
        }
        match self.chain()?.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.version_1
            .check_signature(message, cert, signed, || self.chain()?.verify_tls12_signature(message, cert, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.version_1
            .check_signature(message, cert, signed, || self.chain()?.verify_tls13_signature(message, cert, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.version_1.algorithms.supported_schemes()
    }
}

/// Checks clients that show a certificate.
#[derive(Debug)]
pub struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
    version_1: Version1,
}

impl Clients {
    pub fn new(trust: &Trust, provider: &Arc<CryptoProvider>, is_optional: bool) -> Result<Self, String> {
        let builder = WebPkiClientVerifier::builder_with_provider(trust.roots.clone(), provider.clone());
        let builder = if is_optional { builder.allow_unauthenticated() } else { builder };
        let chain = builder.build().map_err(|error| error.to_string())?;
        Ok(Clients { chain, version_1: Version1::new(trust, provider) })
    }
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match version_1(end_entity) {
            Some(leaf) => self.version_1.check(&leaf, now).map(|()| ClientCertVerified::assertion()),
            None => self.chain.verify_client_cert(end_entity, intermediates, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.version_1
            .check_signature(message, cert, signed, || self.chain.verify_tls12_signature(message, cert, signed))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.version_1
            .check_signature(message, cert, signed, || self.chain.verify_tls13_signature(message, cert, signed))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}
