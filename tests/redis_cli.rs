//! What an operator does with the stock redis-cli: its reports, its hints, its bulk loading.

mod support;

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;
use support::{Reply, Server, client, wait_until};

fn cli(server: &Server) -> Command {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &server.port().to_string()]).env_remove("REDISCLI_AUTH").stdin(Stdio::null());
    command
}

fn run(server: &Server, args: &[&str]) -> Output {
    cli(server).args(args).output().expect("redis-cli is installed (scripts/install-deps.sh)")
}

/// What redis-cli prints; it must have liked what it got.
fn text(server: &Server, args: &[&str]) -> String {
    let output = run(server, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "redis-cli {args:?}: {:?}\n{text}", output.status);
    text
}

fn with_input(server: &Server, args: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = cli(server)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("redis-cli");
    child.stdin.take().expect("piped").write_all(input).expect("redis-cli reads");
    let output = child.wait_with_output().expect("redis-cli ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.success(), text)
}

/// One that goes on until it is ended: what it prints within a time, line by line although nobody sits at a terminal.
fn for_a_while(server: &Server, args: &[&str], time: Duration) -> String {
    let mut child = Command::new("stdbuf")
        .args(["-oL", "redis-cli", "-p", &server.port().to_string()])
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("stdbuf and redis-cli");
    thread::sleep(time);
    child.kill().expect("still running");
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
    child.wait().expect("ended");
    text
}

/// A few keys of every type, one of each much larger than the others.
fn fill(server: &Server) {
    let mut client = server.client();
    for number in 0..50 {
        client.call(&["SET", &format!("string:{number}"), "v"]);
        client.call(&["RPUSH", &format!("list:{number}"), "a", "b"]);
        client.call(&["SADD", &format!("set:{number}"), "a", "b"]);
        client.call(&["ZADD", &format!("zset:{number}"), "1", "a"]);
        client.call(&["HSET", &format!("hash:{number}"), "f", "v"]);
    }
    client.call(&["SET", "string:big", &"x".repeat(20_000)]);
    for number in 0..2000 {
        let number = number.to_string();
        client.call(&["RPUSH", "list:big", &number]);
        client.call(&["SADD", "set:big", &format!("m{number}")]);
        client.call(&["ZADD", "zset:big", &number, &number]);
        client.call(&["HSET", "hash:big", &number, "v"]);
    }
}

#[test]
fn bigkeys_names_the_biggest_of_every_type() {
    let server = Server::start(&[]);
    fill(&server);
    let report = text(&server, &["--bigkeys"]);
    for (kind, size) in [
        ("string", "'\"string:big\"' has 20000 bytes"),
        ("list", "'\"list:big\"' has 2000 items"),
        ("set", "'\"set:big\"' has 2000 members"),
        ("zset", "'\"zset:big\"' has 2000 members"),
        ("hash", "'\"hash:big\"' has 2000 fields"),
    ] {
        let line = report.lines().find(|line| line.starts_with(&format!("Biggest {kind:>6} found")));
        assert!(line.is_some_and(|line| line.contains(size)), "{kind}\n{report}");
    }
    assert!(report.contains("Sampled 255 keys in the keyspace!"), "{report}");
}

#[test]
fn memkeys_weighs_them() {
    let server = Server::start(&[]);
    fill(&server);
    let report = text(&server, &["--memkeys"]);
    for kind in ["string", "list", "set", "zset", "hash"] {
        let line = report.lines().find(|line| line.starts_with(&format!("Biggest {kind:>6} found")));
        assert!(line.is_some_and(|line| line.contains(&format!("'\"{kind}:big\"' has"))), "{kind}\n{report}");
    }
}

#[test]
fn hotkeys_needs_lfu_and_finds_the_hot_one() {
    let server = Server::start(&[]);
    fill(&server);
    assert!(String::from_utf8_lossy(&run(&server, &["--hotkeys"]).stderr).contains("LFU"));
    let server = Server::start(&["--maxmemory-policy", "allkeys-lfu"]);
    fill(&server);
    let mut client = server.client();
    for _ in 0..3000 {
        client.call(&["GET", "string:7"]);
    }
    let report = text(&server, &["--hotkeys"]);
    let hot: Vec<&str> = report.lines().filter(|line| line.starts_with("hot key found with counter")).collect();
    // The big ones were written to very often.
    assert!(hot.iter().take(5).any(|line| line.ends_with("\"string:7\"")), "{report}");
}

#[test]
fn stat_shows_a_line_per_interval() {
    let server = Server::start(&[]);
    fill(&server);
    let report = for_a_while(&server, &["--stat", "-i", "0.1"], Duration::from_millis(1500));
    let rows: Vec<Vec<&str>> = report
        .lines()
        .map(|line| line.split_whitespace().collect())
        .filter(|words: &Vec<&str>| words.first() == Some(&"255"))
        .collect();
    assert!(rows.len() >= 3, "{report}");
    // Keys, memory, clients, blocked, requests and their growth, connections.
    assert!(rows.iter().all(|row| row.len() == 7 && row[2..4] == ["1", "0"]), "{report}");
    assert!(rows[1..].iter().all(|row| row[5] == "(+1)"), "{report}");
}

#[test]
fn latency_is_measured() {
    let server = Server::start(&[]);
    let report = text(&server, &["--latency", "--raw"]);
    let figures: Vec<f64> = report.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    assert!(figures.len() == 4 && figures[3] > 5.0, "{report}");
    let report = for_a_while(&server, &["--latency-history", "-i", "1", "--raw"], Duration::from_millis(2500));
    assert!(report.contains("seconds range"), "{report}");
}

#[test]
fn pipe_loads_protocol_and_counts_errors() {
    let server = Server::start(&[]);
    let mut input = Vec::new();
    for number in 0..20_000 {
        input.extend(client::request(&["SET", &format!("key:{number}"), "value"]));
    }
    input.extend(client::request(&["LPUSH", "key:1", "x"]));
    let (is_ok, report) = with_input(&server, &["--pipe"], &input);
    assert!(!is_ok && report.contains("errors: 1, replies: 20001"), "{report}");
    assert_eq!(server.client().line("DBSIZE").integer(), 20_000);
}

/// A shell of redis-cli reads COMMAND DOCS when it starts; 7.0.15 crashes on descriptions that lack a part.
#[test]
fn the_shell_knows_every_command() {
    let server = Server::start(&[]);
    let (is_ok, answer) = with_input(&server, &[], b"SET k v\nGET k\nhelp zadd\nhelp client kill\nhelp @list\nquit\n");
    let said: Vec<&str> = answer.lines().filter(|line| !line.is_empty()).take(2).collect();
    assert!(is_ok && said == ["OK", "v"], "{answer}");
    let plain: String = answer.replace("\x1b[1m", "").replace("\x1b[0m", "").replace("\x1b[90m", "");
    assert!(plain.contains("ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member ...]"), "{plain}");
    assert!(plain.contains("CLIENT KILL "), "{plain}");
    for command in ["BLMPOP", "LPUSH", "RPOPLPUSH"] {
        assert!(plain.contains(&format!("  {command} ")), "{command}\n{plain}");
    }
    // Every command has a line of help with a summary.
    let mut client = server.client();
    let count = client.line("COMMAND COUNT").integer();
    // Subcommands are listed, too, but not counted.
    let listed = client.line("COMMAND LIST").items().iter().map(Reply::text).collect::<Vec<_>>();
    let commands = listed.iter().filter(|name| !name.contains('|'));
    assert_eq!(commands.clone().count() as i64, count);
    for name in commands {
        let help = text(&server, &["help", name]);
        assert!(help.contains("summary:"), "{name}: {help}");
    }
}

#[test]
fn monitor_shows_commands_but_no_credentials() {
    let server = Server::start(&[]);
    let mut child = cli(&server).arg("MONITOR").stdout(Stdio::piped()).spawn().expect("redis-cli");
    wait_until("the monitor is there", || server.client().line("CLIENT LIST").text().contains("flags=O"));
    let mut client = server.client();
    client.line("SELECT 3");
    client.call(&["SET", "k", "two words\n"]);
    client.line("AUTH hush1");
    client.line("AUTH default hush2");
    client.line("HELLO 2 AUTH default hush3 SETNAME me");
    client.call(&["EVAL", "return redis.call('GET', KEYS[1])", "1", "k"]);
    client.call(&["GET", "last"]);
    thread::sleep(Duration::from_millis(300));
    child.kill().expect("still running");
    let mut text = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut text).expect("text");
    child.wait().expect("ended");
    assert!(text.contains("[3 127.0.0.1:") && text.contains("] \"SET\" \"k\" \"two words\\n\""), "{text}");
    assert!(text.contains("[3 lua] \"GET\" \"k\""), "{text}");
    assert!(text.contains("\"GET\" \"last\""), "{text}");
    assert!(!text.contains("hush"), "{text}");
}
