//! Users against the real server: files and restarts, checks on every path, connections that end when rights go.

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use support::{Client, Reply, Server, server, wait_until};

/// A file of its own for one test, removed at the end.
struct TestFile(PathBuf);

impl TestFile {
    fn new(name: &str, text: &str) -> TestFile {
        let path = std::env::temp_dir().join(format!("rsredis-acl-{name}-{}", std::process::id()));
        fs::write(&path, text).expect("a writable directory");
        TestFile(path)
    }

    fn name(&self) -> &str {
        self.0.to_str().expect("a plain path")
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.0).expect("the file")
    }
}

impl Drop for TestFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn logged_in(server: &Server, user: &str) -> Client {
    let mut client = server.client();
    assert!(client.call(&["AUTH", user, "pw"]).is_ok(), "AUTH {user}");
    client
}

/// The connection ends without another word.
fn assert_closed(client: &mut Client) {
    assert!(client.try_call(&["PING"]).is_err(), "the connection should be closed");
}

fn lines(reply: &Reply) -> Vec<String> {
    reply.items().iter().map(Reply::text).collect()
}

/// The newest entry of ACL LOG by the names of its fields.
fn newest_refusal(admin: &mut Client) -> HashMap<String, String> {
    let log = admin.line("ACL LOG 1");
    let entry = log.items().first().expect("an entry").items().to_vec();
    let shown = |reply: &Reply| match reply {
        Reply::Integer(number) => number.to_string(),
        other => other.text(),
    };
    entry.chunks(2).map(|pair| (pair[0].text(), shown(&pair[1]))).collect()
}

#[test]
fn a_file_is_loaded_saved_and_found_again() {
    let file =
        TestFile::new("file", "user alice on nopass ~* &* +@all\n\nuser bob on >pw ~b:* +get  +set (~c:* +get)\n");
    let mut server = Server::start(&["--aclfile", file.name()]);
    let mut admin = server.client();
    assert_eq!(
        lines(&admin.line("ACL LIST")),
        [
            "user alice on nopass ~* &* +@all",
            "user bob on #30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4 ~b:* resetchannels -@all +get +set \
             (~c:* resetchannels -@all +get)",
            "user default on nopass ~* &* +@all"
        ]
    );
    assert!(admin.line("ACL SETUSER carol on >pw ~* +@read").is_ok());
    assert!(admin.line("ACL SETUSER alice off").is_ok());
    assert!(admin.line("ACL SAVE").is_ok());
    let saved = file.text();
    assert_eq!(saved.lines().count(), 4, "{saved}");
    server.restart();
    let mut admin = server.client();
    assert_eq!(saved, lines(&admin.line("ACL LIST")).join("\n") + "\n");
    assert!(logged_in(&server, "carol").line("SET k v").is_error("NOPERM"));

    // LOAD takes all or nothing; whoever is not the default user is disconnected, the caller after its reply.
    let (mut bob, mut carol) = (logged_in(&server, "bob"), logged_in(&server, "carol"));
    fs::write(&file.0, format!("{saved}user bob on\nuser dave +nosuch ~* ~x\nx\n")).expect("writable");
    let Reply::Error(text) = admin.line("ACL LOAD") else { panic!("a bad file was loaded") };
    for part in [
        "Duplicate user 'bob' found on line 5",
        ":6: Error in applying operation '+nosuch'",
        "Adding a pattern",
        ":7 should start",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(saved, lines(&admin.line("ACL LIST")).join("\n") + "\n");
    assert!(bob.line("GET b:1") == Reply::Nil);
    fs::write(&file.0, saved.replace("+@read", "+@read +acl")).expect("writable");
    assert!(admin.line("ACL LOAD").is_ok());
    assert!(admin.line("PING") == Reply::Status("PONG".into()), "the default user stays");
    assert_closed(&mut bob);
    assert_closed(&mut carol);
    let mut carol = logged_in(&server, "carol");
    assert!(carol.line("ACL LOAD").is_ok());
    assert_closed(&mut carol);

    // CONFIG REWRITE leaves the users to their file; a file that cannot be read keeps the server from starting.
    drop(server);
    fs::write(&file.0, "user bob on\nuser bob off\n").expect("writable");
    let (status, log) = Server::run(&["--port", "0", "--aclfile", file.name()], "");
    assert!(!status.success() && log.contains("Aborting Redis startup because of ACL errors"), "{log}");
    let (status, log) = Server::run(&["--port", "0", "--aclfile", file.name(), "--user", "x", "on"], "");
    assert!(!status.success() && log.contains("define either an ACL file or declare users"), "{log}");
    let (status, log) = Server::run(&["--port", "0", "--aclfile", "/nonexistent/users.acl"], "");
    assert!(
        !status.success() && log.contains("opening file '/nonexistent/users.acl': No such file or directory"),
        "{log}"
    );
}

#[test]
fn users_of_the_configuration_survive_a_rewrite() {
    let conf = TestFile::new(
        "conf",
        "user alice on >pw ~a:* &news +@all -config\nuser default on >pw ~* &* +@all\nrequirepass old\n",
    );
    let mut server = Server::start(&["--enable-debug-command", "yes"]);
    server.kill();
    drop(server);
    let port = server::free_port().to_string();
    let mut child = std::process::Command::new(server::binary())
        .args([conf.name(), "--port", &port, "--save", ""])
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("the server binary");
    wait_until("it listens", || Client::connect(port.parse().expect("a port")).is_ok());
    let mut client = Client::connect(port.parse().expect("a port")).expect("it listens");
    // The line of the default user comes after requirepass and wins.
    assert!(client.line("AUTH old").is_error("WRONGPASS"));
    assert!(client.line("AUTH pw").is_ok());
    assert!(client.line("ACL SETUSER bob on >pw +ping").is_ok());
    assert!(client.line("CONFIG REWRITE").is_ok());
    let expected = lines(&client.line("ACL LIST"));
    let text = conf.text();
    let written: Vec<&str> = text.lines().filter(|line| line.starts_with("user ")).collect();
    assert_eq!(written, expected, "{text}");
    let _ = client.try_call(&["SHUTDOWN", "NOSAVE"]);
    child.wait().expect("the exit");
}

#[test]
fn declarations_are_checked_before_anything_starts() {
    for (words, reason) in [
        (&["--user", "foo", "bogus"][..], "Error in user declaration 'bogus': Syntax error"),
        (&["--user", "foo", "on", "(~k"], "Unmatched parenthesis"),
        (&["--user", "foo", "~*", "~k"], "Adding a pattern after the *"),
        (&["--user", "foo", "+nosuch"], "Error loading ACL rule '+nosuch' for the user named 'foo': Unknown command"),
        (&["--rename-command", "nosuch", "x"], "No such command in rename-command"),
    ] {
        let (status, log) = Server::run(&[&["--port", "0"][..], words].concat(), "");
        assert!(!status.success() && log.contains(reason), "{words:?}: {log}");
    }
}

#[test]
fn rules_hold_for_renamed_commands() {
    let server = Server::start(&["--rename-command", "GET", "fetch", "--rename-command", "FLUSHALL", "\"\""]);
    let mut admin = server.client();
    assert!(admin.line("ACL SETUSER u on >pw ~* +get +flushall").is_ok());
    assert!(admin.line("ACL SETUSER u +fetch").is_error("ERR Error in ACL SETUSER modifier '+fetch': Unknown command"));
    let mut client = logged_in(&server, "u");
    assert!(client.line("FETCH k") == Reply::Nil);
    assert!(client.line("GET k").is_error("ERR unknown command"));
    assert!(admin.line("ACL DRYRUN u FETCH k").is_ok());
}

#[test]
fn listeners_lose_the_connection_with_their_channel() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    assert!(admin.line("ACL SETUSER u on >pw resetchannels &a &b:* +@pubsub +ping").is_ok());
    let listening = |line: &str| {
        let mut client = logged_in(&server, "u");
        assert!(matches!(client.line(line), Reply::Array(_)), "{line}");
        client
    };
    let (mut on_a, mut on_b, mut on_pattern, mut on_shard) =
        (listening("SUBSCRIBE a"), listening("SUBSCRIBE b:1"), listening("PSUBSCRIBE b:*"), listening("SSUBSCRIBE a"));
    let mut idle = logged_in(&server, "u");
    // More channels, the same in another order, or all: nobody is harmed.
    for rules in ["&c", "resetchannels &c &b:* &a", "allchannels", "resetchannels &a &b:*"] {
        let argv: Vec<&str> = ["ACL", "SETUSER", "u"].into_iter().chain(rules.split(' ')).collect();
        assert!(admin.call(&argv).is_ok(), "{rules}");
        for client in [&mut on_a, &mut on_b, &mut on_pattern, &mut on_shard, &mut idle] {
            assert!(client.try_call(&["PING"]).is_ok(), "{rules}");
        }
    }
    assert!(admin.line("ACL SETUSER u resetchannels &b:1 &a").is_ok());
    assert!(
        on_a.try_call(&["PING"]).is_ok() && on_b.try_call(&["PING"]).is_ok() && on_shard.try_call(&["PING"]).is_ok()
    );
    assert_closed(&mut on_pattern);
    assert!(admin.line("ACL SETUSER u resetchannels").is_ok());
    for client in [&mut on_a, &mut on_b, &mut on_shard] {
        assert_closed(client);
    }
    assert!(idle.line("PING") == Reply::Status("PONG".into()), "who does not listen stays");
}

#[test]
fn deleted_users_are_gone_and_disabled_ones_stay() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    assert!(admin.line("ACL SETUSER u on >pw ~* +@all").is_ok());
    let mut client = logged_in(&server, "u");
    assert!(admin.line("ACL SETUSER u off").is_ok());
    assert!(client.line("SET k v").is_ok());
    assert!(server.client().line("AUTH u pw").is_error("WRONGPASS"));
    assert!(admin.line("ACL SETUSER u resetpass -set").is_ok());
    assert!(client.line("SET k v").is_error("NOPERM"));
    assert!(client.line("GET k") == Reply::Bulk(b"v".to_vec()));
    assert!(admin.line("CLIENT LIST").text().contains("user=u"));
    assert_eq!(admin.line("ACL DELUSER u").integer(), 1);
    assert!(!admin.line("CLIENT LIST").text().contains("user=u"));
    assert_closed(&mut client);
    // One who deletes itself hears of it. A new user of the same name has nothing of the old one.
    assert!(admin.line("ACL SETUSER v on >pw +acl").is_ok());
    let mut suicide = logged_in(&server, "v");
    assert_eq!(suicide.line("ACL DELUSER v").integer(), 1);
    assert_closed(&mut suicide);
    assert!(admin.line("ACL SETUSER v on").is_ok());
    assert_eq!(lines(&admin.line("ACL LIST"))[1], "user v on resetchannels -@all");
}

/// A pipeline sees the rules that its own earlier commands have set.
#[test]
fn rules_count_from_the_next_command_on() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let pipeline =
        b"ACL SETUSER default -set\r\nSET k v\r\nMULTI\r\nACL SETUSER default +set\r\nPING\r\nEXEC\r\nSET k v\r\n";
    client.write(pipeline).expect("sent");
    let replies: Vec<Reply> = (0..7).map(|_| client.reply().expect("a reply")).collect();
    assert!(replies[1].is_error("NOPERM this user has no permissions to run the 'set' command"), "{replies:?}");
    assert!(replies[6].is_ok(), "{replies:?}");
    // Other connections, whichever worker serves them, obey as soon as the reply is there.
    let mut others: Vec<Client> = (0..4).map(|_| server.client()).collect();
    for round in 0..50 {
        let (rule, allowed) = if round % 2 == 0 { ("-get", false) } else { ("+get", true) };
        assert!(client.call(&["ACL", "SETUSER", "default", rule]).is_ok());
        for other in &mut others {
            assert_eq!(other.line("GET k") == Reply::Bulk(b"v".to_vec()), allowed, "{rule}");
        }
    }
}

#[test]
fn a_blocked_client_is_asked_again_when_it_is_served() {
    if server::is_stock() {
        return;
    }
    let server = Server::start(&[]);
    let mut admin = server.client();
    assert!(admin.line("ACL SETUSER u on >pw ~* +@all").is_ok());
    let (mut loser, mut keeper) = (logged_in(&server, "u"), server.client());
    loser.send(&["BLPOP", "q", "0"]).expect("sent");
    wait_until("it waits", || server.info("blocked_clients") == "1");
    keeper.send(&["BLPOP", "q", "0"]).expect("sent");
    wait_until("both wait", || server.info("blocked_clients") == "2");
    assert!(admin.line("ACL SETUSER u resetkeys").is_ok());
    assert_eq!(admin.line("RPUSH q x").integer(), 1);
    assert!(loser.reply().expect("a reply").is_error("NOPERM this user has no permissions to access one of the keys"));
    assert_eq!(lines(&keeper.reply().expect("a reply")), ["q", "x"]);
    let entry = newest_refusal(&mut admin);
    assert_eq!((entry["reason"].as_str(), entry["object"].as_str(), entry["username"].as_str()), ("key", "q", "u"));
    assert!(loser.line("PING") == Reply::Status("PONG".into()));
    // The client of a deleted user takes nothing with it.
    assert!(admin.line("ACL SETUSER u ~*").is_ok());
    loser.send(&["BLPOP", "q", "0"]).expect("sent");
    wait_until("it waits", || server.info("blocked_clients") == "1");
    assert_eq!(admin.line("ACL DELUSER u").integer(), 1);
    assert_eq!(admin.line("RPUSH q y").integer(), 1);
    wait_until("it is gone", || server.info("blocked_clients") == "0");
    assert_eq!(admin.line("LLEN q").integer(), 1);
}

#[test]
fn refusals_are_logged_and_counted() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    assert!(admin.line("ACL SETUSER u on >pw ~k +@all -incr resetchannels").is_ok());
    let mut client = logged_in(&server, "u");
    let mut refused = |line: &[&str], expected: [&str; 4]| {
        client.call(line);
        let entry = newest_refusal(&mut admin);
        let seen = [&entry["reason"], &entry["context"], &entry["object"], &entry["username"]];
        assert_eq!(seen, expected.map(String::from).each_ref(), "{line:?}");
        assert!(entry["client-info"].contains("user=u"), "{entry:?}");
    };
    refused(&["INCR", "k"], ["command", "toplevel", "incr", "u"]);
    refused(&["GET", "x\r\ny"], ["key", "toplevel", "x\r\ny", "u"]);
    refused(&["PUBLISH", "c", "m"], ["channel", "toplevel", "c", "u"]);
    refused(&["EVAL", "redis.call('incr', 'k')", "0"], ["command", "lua", "incr", "u"]);
    refused(&["AUTH", "other", "pw"], ["auth", "toplevel", "AUTH", "other"]);
    refused(&["hello", "3", "AUTH", "other", "pw"], ["auth", "toplevel", "hello", "other"]);
    refused(&["MULTI"], ["auth", "toplevel", "hello", "other"]);
    refused(&["CONFIG", "NOSUCH"], ["auth", "toplevel", "hello", "other"]);
    refused(&["INCR", "k"], ["command", "multi", "incr", "u"]);
    let repeated = newest_refusal(&mut admin);
    assert_eq!(repeated["count"], "1");
    client.line("DISCARD");
    client.line("INCR k");
    client.line("INCR k");
    assert_eq!(newest_refusal(&mut admin)["count"], "3");
    if !server::is_stock() {
        assert_eq!(server.info("acl_access_denied_cmd"), "5");
        assert_eq!(server.info("acl_access_denied_key"), "1");
        assert_eq!(server.info("acl_access_denied_channel"), "1");
        assert_eq!(server.info("acl_access_denied_auth"), "2");
    }
    assert_eq!(server.info("errorstat_NOPERM"), "count=6");
    assert!(admin.line("CONFIG SET acllog-max-len 2").is_ok());
    client.line("GET another");
    assert_eq!(admin.line("ACL LOG").items().len(), 2);
    assert!(admin.line("ACL LOG RESET").is_ok());
    assert!(admin.line("ACL LOG").items().is_empty());
}

#[test]
fn generated_passwords_have_the_wanted_length() {
    let server = Server::start(&[]);
    let mut admin = server.client();
    let mut password = |bits: &str| admin.call(&["ACL", "GENPASS", bits]).text();
    for (bits, digits) in [("1", 1), ("4", 1), ("5", 2), ("12", 3), ("256", 64), ("4096", 1024)] {
        let text = password(bits);
        assert!(text.len() == digits && text.bytes().all(|digit| digit.is_ascii_hexdigit()), "{bits}: {text}");
    }
    assert_ne!(password("128"), password("128"));
}

/// A client that has not logged in may neither send much nor wait for ever in silence about it.
#[test]
fn strangers_get_nothing_but_the_door() {
    let server = Server::start(&["--requirepass", "pw"]);
    let mut stranger = server.client();
    for line in ["GET k", "ACL WHOAMI", "CONFIG GET *", "MULTI", "SUBSCRIBE c", "CLIENT LIST", "NOSUCHX"] {
        let reply = stranger.line(line);
        assert!(reply.is_error("NOAUTH") || (line == "NOSUCHX" && reply.is_error("ERR unknown")), "{line}: {reply:?}");
    }
    assert!(stranger.line("AUTH default pw").is_ok());
    assert!(stranger.line("SET k v").is_ok());
    assert!(stranger.line("RESET") == Reply::Status("RESET".into()));
    assert!(stranger.line("GET k").is_error("NOAUTH"));
    // The door opens for those who wait before it when the password is taken away.
    let mut admin = server.client();
    assert!(admin.line("AUTH pw").is_ok());
    assert!(admin.call(&["CONFIG", "SET", "requirepass", ""]).is_ok());
    assert!(stranger.line("GET k") == Reply::Bulk(b"v".to_vec()));
    assert!(admin.line("CONFIG SET requirepass again").is_ok());
    assert!(stranger.line("GET k").is_error("NOAUTH"));
    assert!(admin.line("GET k") == Reply::Bulk(b"v".to_vec()), "who is in stays in");
    assert!(stranger.frame_within(Duration::from_millis(50)).is_ok_and(|frame| frame.is_none()));
}

/// Client-side caching by prefix tells nobody of keys that he may not read.
#[test]
fn broadcasts_name_only_keys_that_may_be_read() {
    if server::is_stock() {
        return;
    }
    let server = Server::start(&[]);
    let mut admin = server.client();
    assert!(admin.line("ACL SETUSER u on >pw ~mine:* %W~written:* +@all").is_ok());
    let mut client = server.client3();
    assert!(client.line("AUTH u pw").is_ok());
    assert!(client.line("CLIENT TRACKING on BCAST").is_ok());
    assert!(admin.line("MSET secret:1 a written:1 b mine:1 c").is_ok());
    assert!(admin.line("SET secret:2 x").is_ok());
    assert!(admin.line("SET mine:2 x").is_ok());
    let named: Vec<String> = (0..2).flat_map(|_| lines(&client.frame().expect("a message").items()[1])).collect();
    assert_eq!(named, ["mine:1", "mine:2"]);
    assert!(client.frame_within(Duration::from_millis(50)).is_ok_and(|frame| frame.is_none()));
}
