//! Streams that are too long to be written in one piece: what a snapshot holds of them is what they were at its begin, however much
//! is written meanwhile, and a stock server reads it, as RDB and as commands.

mod support;

use support::{Client, Reply, Server, wait_until};

const ENTRIES: usize = 30_000;

fn pipeline(client: &mut Client, lines: impl Iterator<Item = String>) {
    let mut sent = 0;
    for line in lines {
        client.send(&line.split(' ').collect::<Vec<_>>()).expect("sent");
        sent += 1;
        if sent == 1000 {
            (0..std::mem::take(&mut sent)).for_each(|_| drop(client.reply().expect("a reply")));
        }
    }
    (0..sent).for_each(|_| drop(client.reply().expect("a reply")));
}

/// Entries, many of them pending with three consumers of one group; another group has none.
fn make(client: &mut Client) {
    pipeline(client, (1..=ENTRIES).map(|n| format!("XADD s {n}-1 field:{} value:{n}", n % 3)));
    for line in ["XGROUP CREATE s busy 0", "XGROUP CREATE s idle $", "XGROUP CREATECONSUMER s busy lazy"] {
        client.line(line);
    }
    for (consumer, count) in [("one", 5000), ("two", 1), ("three", 12_000)] {
        client.line(&format!("XREADGROUP GROUP busy {consumer} COUNT {count} STREAMS s >"));
    }
    // Not pending: commands cannot make a deleted entry pending, Redis's neither.
    client.line("XDEL s 20000-1 30000-1");
}

/// All that can be asked of it but times.
fn content(client: &mut Client) -> Vec<Reply> {
    let mut all = Vec::new();
    for line in ["XLEN s", "DEBUG DIGEST-VALUE s", "XINFO GROUPS s", "XPENDING s busy", "XPENDING s idle"] {
        all.push(client.line(line));
    }
    let info = client.line("XINFO STREAM s");
    all.extend(info.items().chunks(2).filter(|pair| !pair[0].text().starts_with("radix")).map(|pair| pair[1].clone()));
    let pending = client.line("XPENDING s busy - + 100000");
    all.extend(pending.items().iter().map(|line| {
        let parts = line.items();
        Reply::Array(vec![parts[0].clone(), parts[1].clone(), parts[3].clone()])
    }));
    let consumers = client.line("XINFO CONSUMERS s busy");
    all.extend(consumers.items().iter().map(|consumer| Reply::Array(consumer.items()[..4].to_vec())));
    all
}

/// Saves in the background and writes to that very stream, and to others, before the walk has come to its end.
fn save_while_writing(server: &Server, client: &mut Client, save: &str, state: &str) {
    client.line(save);
    for n in 0..200 {
        client.line(&format!("SET other:{n} {n}"));
    }
    client.line("XADD s 99999-1 late entry");
    client.line("XACK s busy 1-1 2-1 3-1");
    client.line("XTRIM s MAXLEN 100");
    client.line("XGROUP DESTROY s busy");
    wait_until("it is saved", || server.info(state) == "0");
}

#[test]
fn a_snapshot_holds_a_long_stream_as_it_was() {
    let server = Server::start(&["--save", ""]);
    let mut client = server.client();
    make(&mut client);
    let expected = content(&mut client);
    assert_eq!(expected[0].integer(), ENTRIES as i64 - 2);
    save_while_writing(&server, &mut client, "BGSAVE", "rdb_bgsave_in_progress");
    assert_eq!(server.info("rdb_last_bgsave_status"), "ok");
    let file = server.dir().join("dump.rdb");
    for mut other in [Server::start_stock(&["--save", ""]), Server::start(&["--save", ""])] {
        other.terminate();
        std::fs::copy(&file, other.dir().join("dump.rdb")).expect("copied");
        other.restart();
        assert!(content(&mut other.client()) == expected, "it is another: {:?}", other.client().line("XINFO GROUPS s"));
    }
}

#[test]
fn so_does_a_base_of_commands() {
    let mut server = Server::start(&["--appendonly", "yes", "--aof-use-rdb-preamble", "no", "--save", ""]);
    let mut client = server.client();
    make(&mut client);
    // Once without writes in between: the base alone holds it all.
    let expected = content(&mut client);
    client.line("BGREWRITEAOF");
    wait_until("it is rewritten", || server.info("aof_rewrite_in_progress") == "0");
    assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
    let stock = Server::start_stock(&["--appendonly", "yes", "--save", ""]);
    let copy = |from: &Server, mut to: Server| {
        to.terminate();
        let (from, target) = (from.dir().join("appendonlydir"), to.dir().join("appendonlydir"));
        std::fs::remove_dir_all(&target).expect("removed");
        std::fs::create_dir(&target).expect("made");
        for entry in std::fs::read_dir(&from).expect("its files") {
            let path = entry.expect("an entry").path();
            std::fs::copy(&path, target.join(path.file_name().expect("a name"))).expect("copied");
        }
        to.restart();
        to
    };
    let stock = copy(&server, stock);
    assert!(content(&mut stock.client()) == expected, "it is another: {:?}", stock.client().line("XINFO GROUPS s"));
    // Then with: base and what came after it together.
    save_while_writing(&server, &mut client, "BGREWRITEAOF", "aof_rewrite_in_progress");
    assert_eq!(server.info("aof_last_bgrewrite_status"), "ok");
    let digest = client.line("DEBUG DIGEST-VALUE s");
    let groups = client.line("XINFO GROUPS s");
    server.terminate();
    let stock = copy(&server, stock);
    assert_eq!(stock.client().line("DEBUG DIGEST-VALUE s"), digest);
    assert_eq!(stock.client().line("XINFO GROUPS s"), groups);
    server.restart();
    assert_eq!(server.client().line("DEBUG DIGEST-VALUE s"), digest);
}

/// What was released stays pending without an owner, through files of both forms.
#[test]
fn released_entries_come_back_from_files() {
    for preamble in ["yes", "no"] {
        let mut server = Server::start(&["--appendonly", "yes", "--aof-use-rdb-preamble", preamble]);
        let mut client = server.client();
        for line in ["XGROUP CREATE s g 0 MKSTREAM", "XADD s 1-0 f v", "XADD s 2-0 f v", "XADD s 3-0 f v"] {
            client.line(line);
        }
        client.line("XREADGROUP GROUP g c COUNT 2 STREAMS s >");
        client.line("XNACK s g FATAL IDS 1 1-0");
        client.line("BGREWRITEAOF");
        wait_until("it is rewritten", || server.info("aof_rewrite_in_progress") == "0");
        let expected = client.line("XPENDING s g - + 10").items()[0].clone();
        assert_eq!((expected.items()[1].text(), expected.items()[3].integer()), (String::new(), i64::MAX));
        server.terminate();
        server.restart();
        let pending = server.client().line("XPENDING s g - + 10");
        assert_eq!((pending.items().len(), &pending.items()[0]), (2, &expected), "preamble {preamble}");
    }
}
