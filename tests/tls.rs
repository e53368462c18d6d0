//! TLS as its users meet it: stock redis-cli and redis-benchmark, certificates asked for or not, changed at run time.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use support::server::free_port;
use support::{Certs, Reply, Server};

fn has_file(dir: &Path, name: &str) -> bool {
    dir.join(name).exists()
}

#[test]
fn stock_tools_work_over_tls_beside_the_plain_port() {
    let certs = Certs::make("tools");
    assert!(has_file(&certs.0, "redis.crt"));
    let (server, port) = certs.serve(&[]);
    assert_eq!(certs.cli(port, true, &["SET", "key", "over tls"]), "OK");
    assert_eq!(server.client().call(&["GET", "key"]).text(), "over tls");
    // Bigger than any record and any socket buffer, in both directions.
    let big = "x".repeat(20_000_000);
    assert!(server.client().call(&["SET", "big", &big]).is_ok());
    assert_eq!(certs.cli(port, true, &["GET", "big"]).len(), big.len());

    let output = Command::new("redis-benchmark")
        .args(["-p", &port.to_string(), "--tls", "--cacert", &certs.path("ca.crt")])
        .args(["--cert", &certs.path("client.crt"), "--key", &certs.path("client.key")])
        .args(["-n", "20000", "-c", "20", "-P", "16", "-d", "1000", "-q", "-t", "set,get"])
        .output()
        .expect("redis-benchmark");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("SET:") && text.contains("GET:") && text.contains("requests per second"), "{text}");

    let days_20 = server.info("tls_server_cert_expires_in_seconds").parse::<i64>().expect("a number");
    assert!((19 * 86400..=20 * 86400).contains(&days_20), "{days_20}");
}

#[test]
fn who_shows_no_certificate_is_let_in_as_the_settings_say() {
    let certs = Certs::make("auth");
    let (server, port) = certs.serve(&[]);
    let mut admin = server.client();
    assert_ne!(certs.cli(port, false, &["PING"]), "PONG");
    for (setting, expected) in [("no", true), ("yes", false), ("optional", true)] {
        assert!(admin.call(&["CONFIG", "SET", "tls-auth-clients", setting]).is_ok());
        assert_eq!(certs.cli(port, false, &["PING"]) == "PONG", expected, "tls-auth-clients {setting}");
        assert_eq!(certs.cli(port, true, &["PING"]), "PONG", "tls-auth-clients {setting}");
    }
    assert!(admin.call(&["CONFIG", "SET", "tls-auth-clients", "yes"]).is_ok());
    // A certificate of version 1 counts if the authority has signed it; one that signed itself does not.
    for protocols in ["TLSv1.2", "TLSv1.3"] {
        assert!(admin.call(&["CONFIG", "SET", "tls-protocols", protocols]).is_ok());
        assert_eq!(certs.cli_as(port, Some("redis"), &["PING"]), "PONG", "{protocols}");
        certs.openssl("req -newkey rsa:2048 -nodes -keyout stranger.key -out stranger.csr -subj /CN=Authority");
        certs.openssl("x509 -req -in stranger.csr -signkey stranger.key -out stranger.crt -days 9");
        assert_ne!(certs.cli_as(port, Some("stranger"), &["PING"]), "PONG", "{protocols}");
    }
}

#[test]
fn a_certificate_names_its_user() {
    let certs = Certs::make("user");
    let (server, port) = certs.serve(&["--tls-auth-clients-user", "CN"]);
    let mut admin = server.client();
    // Nobody of that name yet: the default user.
    assert_eq!(certs.cli(port, true, &["ACL", "WHOAMI"]), "default");
    assert!(admin.call(&["ACL", "SETUSER", "client", "on", "+acl|whoami", "+get", "~*"]).is_ok());
    assert_eq!(certs.cli(port, true, &["ACL", "WHOAMI"]), "client");
    assert!(certs.cli(port, true, &["SET", "key", "value"]).starts_with("NOPERM"));
    assert!(admin.call(&["CONFIG", "SET", "tls-auth-clients-user", "off"]).is_ok());
    assert_eq!(certs.cli(port, true, &["ACL", "WHOAMI"]), "default");
}

#[test]
fn settings_change_at_run_time_or_not_at_all() {
    let certs = Certs::make("change");
    let (server, port) = certs.serve(&[]);
    let mut admin = server.client();
    let refusal = "ERR CONFIG SET failed (possibly related to argument 'tls-cert-file') - \
                   Unable to update TLS configuration. Check server logs.";
    assert_eq!(admin.call(&["CONFIG", "SET", "tls-cert-file", "/absent"]), Reply::Error(refusal.into()));
    assert_eq!(certs.cli(port, true, &["PING"]), "PONG");

    assert!(admin.call(&["CONFIG", "SET", "tls-protocols", "TLSv1.2"]).is_ok());
    let openssl = |version: &str| {
        let output = Command::new("openssl")
            .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), version, "-brief"])
            .args(["-cert", &certs.path("client.crt"), "-key", &certs.path("client.key")])
            .stdin(std::process::Stdio::null())
            .output()
            .expect("openssl");
        String::from_utf8_lossy(&output.stderr).contains("CONNECTION ESTABLISHED")
    };
    assert!(openssl("-tls1_2") && !openssl("-tls1_3"));
    assert!(admin.call(&["CONFIG", "SET", "tls-protocols", ""]).is_ok());
    assert!(openssl("-tls1_3"));

    // A new certificate under the old name: CONFIG SET of the same path takes it up.
    certs.issue("redis", 5);
    let (cert, key) = (certs.path("redis.crt"), certs.path("redis.key"));
    assert!(admin.call(&["CONFIG", "SET", "tls-cert-file", &cert, "tls-key-file", &key]).is_ok());
    let left = server.info("tls_server_cert_expires_in_seconds").parse::<i64>().expect("a number");
    assert!(left <= 5 * 86400, "{left}");
}

#[test]
fn handshakes_that_stall_or_fail_do_not_hold_others_up() {
    let certs = Certs::make("stall");
    let (server, port) = certs.serve(&["--io-threads", "1"]);
    let mut held = Vec::new();
    for number in 0..200 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        if number % 2 == 0 {
            stream.write_all(b"GET / HTTP/1.1\r\n\r\n").ok();
        }
        held.push(stream);
    }
    let mut client = server.client();
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(client.call(&["PING"]).text(), "PONG");
    }
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    assert_eq!(certs.cli(port, true, &["PING"]), "PONG");
    // Who does not speak TLS is cut off.
    let stream = &mut held[0];
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    assert!(!answer.starts_with(b"HTTP") && !answer.starts_with(b"+"), "{answer:?}");
}

#[test]
fn a_start_without_usable_certificates_is_refused() {
    let (status, text) =
        Server::run(&["--port", "0", "--tls-port", &free_port().to_string(), "--save", "", "--dir", "/tmp"], "");
    assert!(!status.success());
    assert!(text.contains("Failed to configure TLS. Check logs for more info."), "{text}");
}
