//! COMMAND INFO of every command that the installed redis-server knows: arity, flags, keys, ACL categories, tips, subcommands must be
//! the same, but for what later versions changed and for commands that are not built yet. And COMPATIBILITY.md tells it to users.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use support::{Client, Reply, Server};

/// What is not as in 7.0: (command, field, why).
const DIFFERENT: &[(&str, &str, &str)] = &[
    ("acl|save", "tips", "tips of 7.2"),
    ("acl|setuser", "tips", "tips of 7.2"),
    ("command|getkeys", "arity", "since 7.2 a command without arguments will do"),
    ("command|getkeysandflags", "arity", "since 7.2 a command without arguments will do"),
    ("zrank", "arity", "WITHSCORE of 7.2"),
    ("zrevrank", "arity", "WITHSCORE of 7.2"),
];

const FIELDS: [&str; 10] =
    ["name", "arity", "flags", "first", "last", "step", "categories", "tips", "keys", "subcommands"];

/// The stock server, if it is installed.
struct Stock {
    process: std::process::Child,
    port: u16,
}

impl Stock {
    fn start() -> Option<Stock> {
        let port = support::server::free_port();
        let process = std::process::Command::new("redis-server")
            .args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .ok()?;
        Some(Stock { process, port })
    }

    fn client(&self) -> Client {
        support::wait_until("the stock server answers", || {
            Client::connect(self.port).is_ok_and(|mut client| client.try_call(&["PING"]).is_ok())
        });
        Client::connect(self.port).expect("connected")
    }
}

impl Drop for Stock {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A reply as text, the order of sets left out.
fn canonical(reply: &Reply, sorted: bool) -> String {
    match reply {
        Reply::Array(items) => {
            let mut items: Vec<String> = items.iter().map(|item| canonical(item, sorted)).collect();
            if sorted {
                items.sort();
            }
            format!("[{}]", items.join(" "))
        }
        Reply::Integer(number) => number.to_string(),
        other => other.text(),
    }
}

type Facts = BTreeMap<(String, &'static str), String>;

/// Every fact of a command and its subcommands.
fn collect(info: &Reply, facts: &mut Facts) {
    let items = info.items();
    let name = items[0].text();
    for (field, value) in FIELDS.iter().zip(items) {
        match *field {
            "name" => {}
            "subcommands" => value.items().iter().for_each(|sub| collect(sub, facts)),
            _ => {
                facts.insert((name.clone(), field), canonical(value, matches!(*field, "flags" | "categories")));
            }
        }
    }
}

fn facts(client: &mut Client, names: &BTreeSet<String>) -> Facts {
    let mut facts = Facts::new();
    for name in names {
        let reply = client.call(&["COMMAND", "INFO", name]);
        if let Some(info @ Reply::Array(_)) = reply.items().first() {
            collect(info, &mut facts);
        }
    }
    facts
}

#[test]
fn commands_are_described_as_by_the_stock_server() {
    let Some(stock) = Stock::start() else { panic!("redis-server is not installed: scripts/install-deps.sh") };
    let server = Server::start(&[]);
    let (mut theirs, mut ours) = (stock.client(), server.client());
    let list = theirs.call(&["COMMAND", "LIST"]);
    let names: BTreeSet<String> = list.items().iter().map(Reply::text).filter(|name| !name.contains('|')).collect();
    assert!(names.len() > 200, "{names:?}");
    let (theirs, ours) = (facts(&mut theirs, &names), facts(&mut ours, &names));
    let mut differences = Vec::new();
    for ((name, field), stock) in &theirs {
        // A command that is not there at all is the matter of other tests.
        let Some(value) = ours.get(&(name.clone(), *field)) else { continue };
        let is_known = DIFFERENT.iter().any(|(command, known, _)| command == name && known == field);
        if (value == stock) == is_known {
            differences.push(format!("{name} {field}: stock {stock}, here {value}, expected to differ: {is_known}"));
        }
    }
    assert!(ours.len() > 200 * 7, "{} facts", ours.len());
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// What is here, but without its use: (the command, what it does instead).
const LIMITED: &[(&str, &str)] = &[("module", "there are no modules: LIST is empty, loading fails")];

/// Writes COMPATIBILITY.md anew if the environment asks for it (scripts/compatibility.sh), else it must be what we would write.
#[test]
fn the_compatibility_table_is_current() {
    let Some(stock) = Stock::start() else { panic!("redis-server is not installed: scripts/install-deps.sh") };
    let server = Server::start(&[]);
    let text = compatibility(&mut stock.client(), &mut server.client());
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("COMPATIBILITY.md");
    if std::env::var_os("WRITE_COMPATIBILITY").is_some() {
        std::fs::write(&file, text).expect("written");
        return;
    }
    let found = std::fs::read_to_string(&file).unwrap_or_default();
    let stale = text.lines().zip(found.lines()).find(|(now, then)| now != then);
    assert!(found == text, "COMPATIBILITY.md is stale, run scripts/compatibility.sh; the first difference: {stale:?}");
}

fn compatibility(theirs: &mut Client, ours: &mut Client) -> String {
    let (stock, here) = (names(theirs), names(ours));
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in stock.union(&here) {
        let side = if here.contains(name) { &mut *ours } else { &mut *theirs };
        let (group, since) = documentation(side, name);
        let row = match (stock.contains(name), here.contains(name)) {
            (true, true) => format!("| {} | yes | {} |", spoken(name), limit(name)),
            (true, false) => panic!("{name} is missing"),
            _ => format!("| {} | – | yes | of a later Redis or Valkey ({since}) |", spoken(name)),
        };
        groups.entry(group).or_default().push(row);
    }
    let limited = stock.iter().filter(|name| limit(name) != "yes |").count();
    let (all, more) = (stock.len(), here.difference(&stock).count());
    let mut text = format!(
        "# Compatibility\n\n\
         Written by scripts/compatibility.sh from COMMAND LIST of Redis 7.0.15 and of rsredis; a test fails when it is stale.\n\
         Of Redis's {all} commands and subcommands all are known here, {limited} of them without their use (modules), and\n\
         {more} of later versions. That those of both sides have the same arity, flags, keys, ACL categories and tips is tested as\n\
         well (tests/command_info.rs), and what they answer in tests/conformance. Differences on purpose:\n\
         tests/redis-suite/differences.md.\n"
    );
    for (group, rows) in groups {
        text += &format!(
            "\n## {group}\n\n| command | Redis 7.0.15 | rsredis | |\n|---|---|---|---|\n{}\n",
            rows.join("\n")
        );
    }
    text
}

/// All commands and subcommands, `config|get`.
fn names(client: &mut Client) -> BTreeSet<String> {
    client.call(&["COMMAND", "LIST"]).items().iter().map(Reply::text).collect()
}

/// `CONFIG GET` of `config|get`.
fn spoken(name: &str) -> String {
    name.replace('|', " ").to_uppercase()
}

/// The column of ours: whether the command has its use here, and if not, what it does.
fn limit(name: &str) -> String {
    let command = name.split('|').next();
    match LIMITED.iter().find(|(limited, _)| Some(*limited) == command) {
        Some((_, why)) => format!("**limited** | {why}"),
        None => "yes |".into(),
    }
}

/// Group and first version.
fn documentation(client: &mut Client, name: &str) -> (String, String) {
    let reply = client.call(&["COMMAND", "DOCS", name]);
    let fields = reply.items().get(1).unwrap_or_else(|| panic!("no COMMAND DOCS of {name}")).items();
    let field = |wanted: &str| {
        let at = fields.iter().position(|item| matches!(item, Reply::Bulk(_)) && item.text() == wanted);
        at.map(|at| fields[at + 1].text()).unwrap_or_default()
    };
    (field("group"), field("since"))
}
