//! Cipher suites by OpenSSL's names, as redis.conf has them.

use rustls::{CipherSuite, SupportedCipherSuite};

/// OpenSSL's name of every suite that can be offered.
const NAMES: &[(&str, CipherSuite)] = &[
    ("TLS_AES_256_GCM_SHA384", CipherSuite::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", CipherSuite::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", CipherSuite::TLS13_CHACHA20_POLY1305_SHA256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-ECDSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ("ECDHE-RSA-AES256-GCM-SHA384", CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384),
    ("ECDHE-RSA-AES128-GCM-SHA256", CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256),
    ("ECDHE-RSA-CHACHA20-POLY1305", CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256),
];

/// Keeps the suites that the settings name, in their order. `ciphers` rules TLS 1.2, `ciphersuites` TLS 1.3.
pub fn restrict(
    suites: &mut Vec<SupportedCipherSuite>,
    ciphers: Option<&str>,
    ciphersuites: Option<&str>,
) -> Result<(), String> {
    let (tls13, tls12): (Vec<_>, Vec<_>) = suites.drain(..).partition(|suite| suite.tls13().is_some());
    let chosen = |available: Vec<SupportedCipherSuite>, text: Option<&str>| match text {
        Some(text) if !text.trim().is_empty() => choose(&available, text),
        _ => Some(available),
    };
    suites.extend(chosen(tls13, ciphersuites).ok_or("Failed to configure ciphersuites")?);
    suites.extend(chosen(tls12, ciphers).ok_or("Failed to configure ciphers")?);
    Ok(())
}

/// OpenSSL's list: names and groups joined by `:`, `-` and `!` take away. What is unknown here adds nothing; a list that
/// names nothing at all is an error.
fn choose(available: &[SupportedCipherSuite], text: &str) -> Option<Vec<SupportedCipherSuite>> {
    let mut chosen: Vec<SupportedCipherSuite> = Vec::new();
    for item in text.split([':', ',', ' ']).filter(|item| !item.is_empty()) {
        if let Some(name) = item.strip_prefix(['-', '!']) {
            chosen.retain(|suite| name_of(suite) != Some(name));
        } else if matches!(item, "DEFAULT" | "ALL" | "HIGH") {
            for suite in available {
                if !chosen.iter().any(|other| other.suite() == suite.suite()) {
                    chosen.push(*suite);
                }
            }
        } else {
            chosen.extend(available.iter().filter(|suite| name_of(suite) == Some(item)));
        }
    }
    (!chosen.is_empty()).then_some(chosen)
}

fn name_of(suite: &SupportedCipherSuite) -> Option<&'static str> {
    NAMES.iter().find(|(_, id)| *id == suite.suite()).map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suites() -> Vec<SupportedCipherSuite> {
        rustls::crypto::ring::default_provider().cipher_suites
    }

    #[test]
    fn every_suite_has_a_name() {
        assert!(suites().iter().all(|suite| name_of(suite).is_some()));
    }

    #[test]
    fn lists_choose_order_and_take_away() {
        let mut chosen = suites();
        restrict(&mut chosen, Some("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"), None).expect("a list");
        let names: Vec<_> = chosen.iter().filter(|suite| suite.tls13().is_none()).filter_map(name_of).collect();
        assert_eq!(names, ["ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"]);
        assert_eq!(chosen.iter().filter(|suite| suite.tls13().is_some()).count(), 3);

        let mut chosen = suites();
        restrict(&mut chosen, Some("DEFAULT:-ECDHE-RSA-AES128-GCM-SHA256"), Some("TLS_AES_128_GCM_SHA256"))
            .expect("a list");
        assert_eq!(chosen.len(), 1 + 5);
        assert!(restrict(&mut suites(), Some("NULL-MD5"), None).is_err());
    }
}
