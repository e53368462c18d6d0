//! Values of very many elements: getting rid of one is work for the background, whoever does it and how.

mod support;

use support::{Client, Server, wait_until};

const ELEMENTS: usize = 10_000;

/// Makes the key a value of that many elements, in few requests.
fn make(client: &mut Client, kind: &str, key: &str) {
    let mut sent = 0;
    for start in (0..ELEMENTS).step_by(1000) {
        let words = (start..start + 1000).flat_map(|number| match kind {
            // Of a list the nodes count.
            "RPUSH" => vec!["x".repeat(200)],
            "SADD" => vec![format!("member:{number}")],
            "ZADD" => vec![number.to_string(), format!("member:{number}")],
            _ => vec![format!("member:{number}"), "value".to_owned()],
        });
        let argv: Vec<String> = [kind.to_owned(), key.to_owned()].into_iter().chain(words).collect();
        client.send(&argv).expect("sent");
        sent += 1;
    }
    for _ in 0..sent {
        client.reply().expect("a reply");
    }
}

fn freed(server: &Server) -> u64 {
    server.info("lazyfreed_objects").parse().expect("a number")
}

/// However a big value goes, the background frees it, also where no directive says lazy.
#[test]
fn big_values_are_freed_in_the_background() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for kind in ["HSET", "SADD", "ZADD", "RPUSH"] {
        for way in [
            "DEL big",
            "UNLINK big",
            "SET big v",
            "RENAME other big",
            "COPY other big REPLACE",
            "SDIFFSTORE big nothing",
            "PEXPIRE big 1",
            "FLUSHALL ASYNC",
        ] {
            client.line("DEL big");
            make(&mut client, kind, "big");
            client.line("SET other v");
            let before = freed(&server);
            let reply = client.line(way);
            assert!(!reply.is_error(""), "{way}: {reply:?}");
            let what = format!("the {kind} value is freed after {way}");
            wait_until(&what, || {
                client.line("EXISTS big");
                freed(&server) > before && server.info("lazyfree_pending_objects") == "0"
            });
        }
    }
}
