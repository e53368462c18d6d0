//! The port that speaks TLS and peers who mean harm, or who break off: handshakes that are none or never end, key updates without
//! end, readers who do not read, connections cut in the middle; and all that is big or moves while TLS is around it.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};
use support::{Certs, Client, wait_until};

fn connect(certs: &Certs, port: u16) -> Client {
    Client::connect_tls(port, &certs.client_config()).expect("connected")
}

/// All that a server says on a plain socket until it hangs up.
fn last_words(stream: &mut TcpStream) -> Vec<u8> {
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut said = Vec::new();
    if let Err(error) = stream.read_to_end(&mut said) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it hangs up");
    }
    said
}

#[test]
fn what_is_no_handshake_ends_the_connection() {
    let certs = Certs::make("garbage");
    let (server, port) = certs.serve(&[]);
    let record = |kind: u8, len: u16, body: &[u8]| [&[kind, 3, 1], &len.to_be_bytes()[..], body].concat();
    for (bytes, what) in [
        (b"*1\r\n$4\r\nPING\r\n".to_vec(), "the protocol without TLS"),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), "HTTP"),
        (vec![0; 512], "zeros"),
        (record(22, 65535, &[1; 600]), "a record that is too long"),
        (record(22, 200, &[7; 200]), "a handshake message that does not exist"),
        (record(22, 8, &[1, 0xff, 0xff, 0xff, 3, 3, 0, 0]), "a greeting of sixteen megabytes"),
        (record(23, 16, &[9; 16]), "data before the handshake"),
        ([record(22, 4, &[1, 0, 0, 0]), record(21, 2, &[2, 40])].concat(), "an empty greeting"),
    ] {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
        stream.write_all(&bytes).expect("sent");
        let said = last_words(&mut stream);
        assert!(said.is_empty() || said[0] == 21, "{what}: an alert or nothing, not {said:?}");
    }
    assert_eq!(connect(&certs, port).line("PING").text(), "PONG");
    wait_until("they are forgotten", || server.info("connected_clients") == "1");
}

#[test]
fn a_handshake_that_never_ends_is_given_up() {
    let certs = Certs::make("loris");
    let (server, port) = certs.serve(&["--io-threads", "1"]);
    let before = server.rss();
    let mut stalled: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(("127.0.0.1", port)).expect("connected")).collect();
    // Half of them begin a greeting of sixteen kilobytes; one goes on with it byte by byte.
    for stream in stalled.iter_mut().step_by(2) {
        stream.write_all(&[22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3]).expect("sent");
    }
    let begun = Instant::now();
    let mut established = connect(&certs, port);
    while stalled[0].write_all(&[0]).is_ok() {
        assert_eq!(established.line("PING").text(), "PONG");
        assert!(begun.elapsed() < Duration::from_secs(20), "the slow one is still listened to");
        thread::sleep(Duration::from_millis(50));
    }
    assert!(begun.elapsed() > Duration::from_secs(5), "a slow link may take its time");
    wait_until("all are let go", || server.info("connected_clients") == "2");
    assert!(server.rss() < before + (16 << 20), "{} bytes more", server.rss() - before);
}

#[test]
fn key_updates_are_followed_but_not_for_ever() {
    let certs = Certs::make("updates");
    let (_server, port) = certs.serve(&[]);
    let mut client = connect(&certs, port);
    assert_eq!(client.line("PING").text(), "PONG");
    // With something to do in between they may be many.
    for number in 0..100 {
        client.tls().refresh_traffic_keys().expect("TLS 1.3");
        assert_eq!(client.call(&["ECHO", &number.to_string()]).text(), number.to_string());
    }
    let mut flood = || -> std::io::Result<()> {
        for _ in 0..10_000 {
            client.tls().refresh_traffic_keys().map_err(std::io::Error::other)?;
            client.write(b"")?;
        }
        client.try_call(&["PING"]).map(|_| ())
    };
    assert!(flood().is_err(), "the connection ends");
    assert_eq!(connect(&certs, port).line("PING").text(), "PONG");
}

#[test]
fn renegotiation_is_refused() {
    let certs = Certs::make("renegotiation");
    let (_server, port) = certs.serve(&["--tls-protocols", "TLSv1.2"]);
    let mut client = Command::new("openssl")
        .args(["s_client", "-connect", &format!("127.0.0.1:{port}"), "-tls1_2"])
        .args(["-cert", &certs.path("client.crt"), "-key", &certs.path("client.key")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl");
    let mut input = client.stdin.take().expect("piped");
    // The line `R` makes s_client ask for it.
    for line in ["PING\r\n", "R\n", "PING\r\n"] {
        thread::sleep(Duration::from_millis(500));
        // It may have given up by then.
        input.write_all(line.as_bytes()).ok();
    }
    thread::sleep(Duration::from_millis(500));
    drop(input);
    let output = client.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("+PONG"), "{text}");
    assert!(text.contains("RENEGOTIATING") && text.to_lowercase().contains("no renegotiation"), "{text}");
    assert_eq!(connect(&certs, port).line("PING").text(), "PONG");
}

#[test]
fn who_never_reads_is_cut_off_at_the_limit() {
    let certs = Certs::make("deaf");
    let (server, port) = certs.serve(&["--client-output-buffer-limit", "normal 20mb 0 0"]);
    let mut admin = server.client();
    assert!(admin.call(&["SET", "big", &"x".repeat(1 << 20)]).is_ok());
    let before = server.rss();
    let mut deaf = connect(&certs, port);
    deaf.stream().set_write_timeout(Some(Duration::from_secs(5))).expect("a timeout");
    let mut peak = 0;
    for _ in 0..500 {
        if deaf.send(&["GET", "big"]).is_err() {
            break;
        }
        peak = peak.max(server.rss());
    }
    wait_until("it is cut off", || server.info("client_output_buffer_limit_disconnections") == "1");
    assert!(peak.saturating_sub(before) < 100 << 20, "{} bytes more", peak - before);
    assert_eq!(connect(&certs, port).line("PING").text(), "PONG");
}

#[test]
fn an_end_without_goodbye_is_an_end() {
    let certs = Certs::make("cut");
    let (server, port) = certs.serve(&[]);
    let mut cut = connect(&certs, port);
    assert!(cut.call(&["SET", "key", "whole"]).is_ok());
    // A request and a half, and the line is dead.
    cut.write(b"*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$4\r\nlast\r\n*3\r\n$3\r\nSET\r\n$3\r\nkey\r\n$9\r\nha").expect("sent");
    cut.stream().shutdown(Shutdown::Both).expect("cut");
    wait_until("the whole request has run", || server.client().line("GET key").text() == "last");
    wait_until("it is forgotten", || server.info("connected_clients") == "1");
    // And in the middle of a record.
    let mut torn = connect(&certs, port);
    assert_eq!(torn.line("PING").text(), "PONG");
    let mut socket = torn.stream();
    socket.write_all(&[23, 3, 3, 1, 0, 9, 9, 9]).expect("sent");
    socket.shutdown(Shutdown::Write).expect("cut");
    wait_until("it is forgotten", || server.info("connected_clients") == "1");
    // A record that was changed on its way ends the connection, with an alert.
    let mut forged = connect(&certs, port);
    assert_eq!(forged.line("PING").text(), "PONG");
    let mut socket = forged.stream();
    socket.write_all(&[&[23, 3, 3, 0, 32][..], &[9; 32]].concat()).expect("sent");
    let error = forged.rest().expect_err("an alert");
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
}

#[test]
fn the_server_says_goodbye_in_tls() {
    let certs = Certs::make("goodbye");
    let (server, port) = certs.serve(&[]);
    // Without it the end would be an error to the client (UnexpectedEof).
    for line in ["QUIT", "CLIENT KILL ID me SKIPME no"] {
        let mut client = connect(&certs, port);
        let id = client.line("CLIENT ID").integer().to_string();
        client
            .send(&line.split(' ').map(|word| if word == "me" { &id } else { word }).collect::<Vec<_>>())
            .expect("sent");
        let rest = client.rest().unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(rest.starts_with(b"+OK") || rest.starts_with(b":1"), "{line}: {rest:?}");
    }
    wait_until("they are forgotten", || server.info("connected_clients") == "1");
}

#[test]
fn pipelines_and_values_of_any_size_go_through() {
    let certs = Certs::make("size");
    let (server, port) = certs.serve(&[]);
    let config = certs.client_config();
    let mut client = Client::connect_tls(port, &config).expect("connected");
    // Written whole before anything is read.
    let mut requests = Vec::new();
    for number in 0..100_000 {
        requests.extend_from_slice(format!("*2\r\n$4\r\nINCR\r\n$5\r\nk{:04}\r\n", number % 1000).as_bytes());
    }
    client.write(&requests).expect("sent");
    for number in 0..100_000 {
        assert_eq!(client.reply().expect("a reply").integer(), number / 1000 + 1);
    }
    // Lengths around that of a record, in either direction.
    for len in [1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537, 1_000_000, 64 << 20] {
        let value: Vec<u8> = (0..len).map(|at| (at * 7 + at / 251) as u8).collect();
        assert!(client.call(&[b"SET".as_slice(), b"value", &value]).is_ok());
        let got = client.call(&["GET", "value"]);
        assert!(matches!(got, support::Reply::Bulk(bytes) if bytes == value), "{len} bytes");
    }
    assert_eq!(server.client().line("STRLEN value").integer(), 64 << 20);
}

#[test]
fn new_certificates_do_not_touch_established_connections() {
    let certs = Certs::make("renewal");
    let (server, port) = certs.serve(&[]);
    let config = certs.client_config();
    let mut admin = server.client();
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect_tls(port, &config).expect("connected")).collect();
    let shown = |client: &mut Client| client.tls().peer_certificates().expect("a certificate")[0].clone();
    for client in &mut clients {
        assert!(client.line("INCR count").integer() > 0);
    }
    let old = shown(&mut clients[0]);
    for round in 1..=3 {
        certs.issue("redis", 5 + round);
        let (cert, key) = (certs.path("redis.crt"), certs.path("redis.key"));
        assert!(admin.call(&["CONFIG", "SET", "tls-cert-file", &cert, "tls-key-file", &key]).is_ok());
        for client in &mut clients {
            client.line("INCR count").integer();
        }
        let mut new = Client::connect_tls(port, &config).expect("connected");
        assert_eq!(new.line("PING").text(), "PONG");
        assert_ne!(shown(&mut new), old, "a new connection is shown the new certificate");
    }
    assert_eq!(admin.line("GET count").text(), "32");
}

#[test]
fn certificates_whose_time_is_over() {
    let certs = Certs::make("expired");
    certs.issue("redis", -1);
    certs.issue("late", -1);
    let (server, port) = certs.serve(&[]);
    // The server may show what it has; INFO tells.
    let left: i64 = server.info("tls_server_cert_expires_in_seconds").parse().expect("a number");
    assert!(left < 0, "{left}");
    assert_eq!(connect(&certs, port).line("PING").text(), "PONG");
    // A client may not.
    assert!(!certs.cli_as(port, Some("late"), &["PING"]).contains("PONG"));
}

#[test]
fn a_connection_moves_to_another_worker_with_all_that_tls_knows() {
    let certs = Certs::make("moves");
    let (server, port) = certs.serve(&["--io-threads", "4"]);
    let config = certs.client_config();
    let mut control = server.client();
    let mut clients: Vec<Client> = (0..8).map(|_| Client::connect_tls(port, &config).expect("connected")).collect();
    let worker = |client: &mut Client| {
        let info = client.line("CLIENT INFO").text();
        let field = info.split_whitespace().find_map(|word| word.strip_prefix("io-thread=")).expect("a field");
        field.parse::<usize>().expect("a number")
    };
    for count in [4, 1, 3, 2, 4, 1] {
        assert!(control.call(&["DEBUG", "ACTIVE-WORKERS", &count.to_string()]).is_ok());
        let mut used = std::collections::BTreeSet::new();
        for (index, client) in clients.iter_mut().enumerate() {
            worker(client);
            // Half a request when it moves, and keys that change on the way.
            used.insert(worker(client));
            if index % 2 == 0 {
                client.tls().refresh_traffic_keys().expect("TLS 1.3");
            }
            assert_eq!(client.call(&["ECHO", &"e".repeat(30_000)]).text().len(), 30_000);
        }
        assert_eq!(used.len(), count, "eight clients use every active worker");
    }
    // While they move all the time nothing is lost.
    let movers: Vec<_> = clients
        .into_iter()
        .enumerate()
        .map(|(index, mut client)| {
            thread::spawn(move || {
                for number in 1..=300 {
                    assert_eq!(client.call(&["INCR", &format!("own{index}")]).integer(), number);
                }
            })
        })
        .collect();
    for round in 0..100 {
        assert!(control.call(&["DEBUG", "ACTIVE-WORKERS", &(round % 4 + 1).to_string()]).is_ok());
        thread::sleep(Duration::from_millis(2));
    }
    movers.into_iter().for_each(|mover| mover.join().expect("no client failed"));
}
