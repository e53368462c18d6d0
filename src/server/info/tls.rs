//! INFO tls: until when the certificates in use are valid. Absent without TLS.

use super::{Field, Figure, View};
use crate::net::tls::{CertFacts, Facts};

pub const FIELDS: &[Field] = &[
    Field::new("tls_server_cert_serial", |view| serial(view, |facts| facts.server.as_ref())),
    Field::new("tls_server_cert_expires_in_seconds", |view| seconds_left(view, |facts| facts.server.as_ref())),
    Field::new("tls_client_cert_serial", |view| serial(view, |facts| facts.client.as_ref())),
    Field::new("tls_client_cert_expires_in_seconds", |view| seconds_left(view, |facts| facts.client.as_ref())),
    Field::new("tls_ca_cert_serial", |view| serial(view, |facts| facts.ca.as_ref())),
    Field::new("tls_ca_cert_expires_in_seconds", |view| seconds_left(view, |facts| facts.ca.as_ref())),
];

fn serial(view: &View<'_>, which: fn(&Facts) -> Option<&CertFacts>) -> Figure {
    which(&view.server.tls.facts()).map_or(Figure::Absent, |cert| cert.serial.as_str().into())
}

/// Negative once it is over.
fn seconds_left(view: &View<'_>, which: fn(&Facts) -> Option<&CertFacts>) -> Figure {
    which(&view.server.tls.facts()).map_or(Figure::Absent, |cert| (cert.expires_at_s - view.now_us / 1_000_000).into())
}
