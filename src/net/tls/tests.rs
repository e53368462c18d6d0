//! Contexts from files that openssl has made.

use super::*;
use std::path::Path;
use std::process::Command;

/// A directory with a certificate authority and a certificate of it.
fn certificates() -> PathBuf {
    let dir =
        std::env::temp_dir().join(format!("rsredis-tls-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::create_dir_all(&dir).expect("a directory");
    let openssl = |args: &[&str]| {
        let output = Command::new("openssl").args(args).current_dir(&dir).output().expect("openssl");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    openssl(&[
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.crt", "-subj", "/CN=CA",
    ]);
    openssl(&[
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        "redis.key",
        "-out",
        "redis.csr",
        "-subj",
        "/CN=alice",
    ]);
    openssl(&[
        "x509",
        "-req",
        "-in",
        "redis.csr",
        "-CA",
        "ca.crt",
        "-CAkey",
        "ca.key",
        "-CAcreateserial",
        "-out",
        "redis.crt",
        "-days",
        "10",
    ]);
    openssl(&["pkcs8", "-topk8", "-in", "redis.key", "-out", "locked.key", "-passout", "pass:1234"]);
    dir
}

fn material(dir: &Path, key: &str, password: Option<&str>) -> Material {
    let file = |name: &str| dir.join(name).to_string_lossy().into_owned();
    Material {
        server: Some(Identity {
            cert_file: file("redis.crt"),
            key_file: file(key),
            key_password: password.map(str::to_owned),
        }),
        ca_file: Some(file("ca.crt")),
        session_caching: true,
        ..Material::default()
    }
}

#[test]
fn contexts_come_from_files_and_an_error_changes_nothing() {
    let dir = certificates();
    let contexts = Contexts::default();
    assert!(contexts.server().is_none());
    contexts.renew(&material(&dir, "redis.key", None)).expect("good files");
    let facts = contexts.facts();
    let server = facts.server.as_ref().expect("facts of the certificate");
    assert_eq!(server.common_name.as_deref(), Some("alice"));
    let first = contexts.server().expect("a server");

    assert!(contexts.renew(&material(&dir, "absent.key", None)).is_err());
    assert!(contexts.renew(&material(&dir, "ca.key", None)).is_err());
    assert!(contexts.renew(&material(&dir, "locked.key", None)).is_err());
    assert!(contexts.renew(&material(&dir, "locked.key", Some("wrong"))).is_err());
    assert!(Arc::ptr_eq(&first, &contexts.server().expect("still the same")));
    contexts.renew(&material(&dir, "locked.key", Some("1234"))).expect("the right password");

    let without_ca = Material { ca_file: None, ..material(&dir, "redis.key", None) };
    assert!(contexts.renew(&without_ca).is_err());
    contexts.renew(&Material { client_auth: ClientAuth::Unasked, ..without_ca }).expect("nobody is to be checked");
    std::fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn protocols_are_redis_words() {
    let versions =
        |text: &str| Material { protocols: Some(text.into()), ..Material::default() }.versions().map(|v| v.len());
    assert_eq!(versions(""), Ok(2));
    assert_eq!(versions("TLSv1.2"), Ok(1));
    assert_eq!(versions("TLSv1.1 TLSv1.2 TLSv1.3"), Ok(2));
    assert!(versions("TLSv1.1").is_err());
    assert!(versions("SSLv3").is_err());
}
