//! Messages to many: one text for all listeners, and the limit of what is remembered for client-side caching.

mod support;

use std::time::Instant;
use support::{Client, Reply, Server};

fn info(reply: &Reply, field: &str) -> i64 {
    let text = reply.text();
    let value = text.lines().find_map(|line| line.trim_end().strip_prefix(field)?.strip_prefix(':'));
    value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {field}"))
}

/// This process needs a descriptor for each listener, as the server does.
fn allow_descriptors(wanted: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("limits");
    if soft < wanted {
        setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).expect("descriptors for all listeners");
    }
}

/// Between PUBLISH and the moment at which listeners are written to, their messages are one piece of memory. With a single worker
/// nobody is written to before the transaction ends. The first to listen does not wait for the last.
#[test]
fn a_message_is_kept_once_for_all_listeners() {
    let (listeners, length) = (10_000, 16 * 1024);
    allow_descriptors(listeners as u64 + 500);
    let server = Server::start(&["--io-threads", "1", "--maxclients", "12000"]);
    let mut clients: Vec<Client> = (0..listeners).map(|_| server.client()).collect();
    for client in &mut clients {
        client.send(&["SUBSCRIBE", "news"]).expect("sent");
    }
    for client in &mut clients {
        client.frame().expect("subscribed");
    }
    let mut publisher = server.client();
    let message = "m".repeat(length);
    for words in [&["MULTI"][..], &["INFO", "memory"], &["PUBLISH", "news", &message], &["INFO", "memory"]] {
        publisher.call(words);
    }
    let reply = publisher.line("EXEC");
    let [before, receivers, after] = reply.items() else { panic!("{reply:?}") };
    assert_eq!(receivers.integer(), listeners as i64);
    let grown = info(after, "used_memory") - info(before, "used_memory");
    // A place in each outbox, and the message; copies would be 160 MB.
    assert!(grown < 4 << 20, "{grown} bytes");
    for client in &mut clients {
        assert_eq!(client.frame().expect("the message").items()[2].text(), message);
    }
    let start = Instant::now();
    publisher.send(&["PUBLISH", "news", &message]).expect("sent");
    let mut received = clients.iter_mut().map(|client| {
        assert_eq!(client.frame().expect("the message").items()[2].text(), message);
        start.elapsed()
    });
    let first = received.next().expect("listeners");
    let last = received.last().expect("listeners");
    assert!(first * 5 < last, "the first after {first:?}, the last after {last:?}");
    assert_eq!(publisher.frame().expect("answered").integer(), listeners as i64);
}

#[test]
fn remembered_keys_are_limited() {
    let server = Server::start(&["--tracking-table-max-keys", "100"]);
    let mut reader = server.client3();
    assert!(reader.line("CLIENT TRACKING ON").is_ok());
    let mut writer = server.client();
    for number in 0..300 {
        writer.call(&["SET", &format!("key:{number}"), "v"]);
        reader.call(&["GET", &format!("key:{number}")]);
    }
    assert_eq!(server.info("tracking_total_keys"), "100");
    // The reader was told to forget each of the other 200, once.
    reader.line("PING");
    let mut forgotten = std::collections::BTreeSet::new();
    while let Some(Reply::Push(items)) = reader.frame_within(std::time::Duration::from_millis(200)).expect("connected")
    {
        for key in items[1].items() {
            assert!(forgotten.insert(key.text()), "{key:?} twice");
        }
    }
    assert_eq!(forgotten.len(), 200);
    // A lower limit holds from the next read on; what is still remembered is still told.
    assert!(writer.line("CONFIG SET tracking-table-max-keys 10").is_ok());
    reader.line("GET key:0");
    assert_eq!(server.info("tracking_total_keys"), "10");
}
