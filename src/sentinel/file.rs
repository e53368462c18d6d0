//! The `sentinel …` lines of the configuration file: read at start, written whenever something changes that must survive a restart.
//! Stock Sentinel writes and reads the same lines, so either program can go on where the other has stopped.
//!
//! ```text
//!   settings of the sentinel itself  ─►  sentinel monitor …  ─►  everything that names a primary      the order of reading,
//!                                                                                                      whatever that of the lines
//! ```

use super::address::{Fault, leading_count, leading_number};
use super::core::Core;
use super::instance::{Id, Kind, PARALLEL_SYNCS};
use super::periods::Periods;
use crate::base::quoting::quote;
use crate::server::config::SentinelLine;

/// Lines that must be known before any address is read.
const FIRST: &[&str] = &[
    "announce-ip",
    "announce-port",
    "deny-scripts-reconfig",
    "sentinel-user",
    "sentinel-pass",
    "current-epoch",
    "myid",
    "resolve-hostnames",
    "announce-hostnames",
];

pub const ID_LEN: usize = 40;

impl Fault {
    pub fn text(self, kind: Kind) -> &'static str {
        match (self, kind) {
            (Fault::BadPort, _) => "Invalid port number.",
            (Fault::Unresolved, _) => "Can't resolve instance hostname.",
            (Fault::Duplicate, Kind::Primary) => "Duplicate master name.",
            (Fault::Duplicate, Kind::Replica) => "Duplicate hostname and port for replica.",
            (Fault::Duplicate, Kind::Sentinel) => "Duplicate runid for sentinel.",
        }
    }
}

/// When a line is to be read: 0 first, 2 last.
pub fn turn(words: &[Vec<u8>]) -> usize {
    let is = |name: &str| words.first().is_some_and(|word| word.eq_ignore_ascii_case(name.as_bytes()));
    match () {
        () if FIRST.iter().any(|name| is(name)) => 0,
        () if is("monitor") => 1,
        () => 2,
    }
}

fn own(word: &[u8]) -> String {
    String::from_utf8_lossy(word).into_owned()
}

fn yes_or_no(word: &[u8]) -> Option<bool> {
    match () {
        () if word.eq_ignore_ascii_case(b"yes") => Some(true),
        () if word.eq_ignore_ascii_case(b"no") => Some(false),
        () => None,
    }
}

/// A time that must be positive.
fn positive(word: &[u8]) -> Result<i64, String> {
    Some(leading_number(word)).filter(|ms| *ms > 0).ok_or("negative or zero time parameter.".into())
}

impl Core {
    /// Reads one line, the word `sentinel` taken off. `may_run` tells whether a script can be executed.
    pub fn read_line(&mut self, words: &[Vec<u8>], may_run: &dyn Fn(&[u8]) -> bool) -> Result<(), String> {
        let Some((name, rest)) = words.split_first() else { return Err(UNKNOWN.into()) };
        let name = own(name).to_ascii_lowercase();
        let rest: Vec<&[u8]> = rest.iter().map(Vec::as_slice).collect();
        match (name.as_str(), rest.as_slice()) {
            ("monitor", [name, host, port, quorum]) => {
                let quorum = leading_number(quorum);
                if quorum <= 0 {
                    return Err("Quorum must be 1 or greater.".into());
                }
                let quorum = u32::try_from(quorum).unwrap_or(u32::MAX);
                let added = self.add_primary(&own(name), &own(host), leading_number(port), quorum);
                added.map(drop).map_err(|fault| fault.text(Kind::Primary).into())
            }
            (name, [word]) => self.read_own(name, word),
            (name, [primary, rest @ ..]) => {
                // An unknown line is told as such, whatever it names.
                if !OF_PRIMARIES.contains(&(name, rest.len())) {
                    return Err(UNKNOWN.into());
                }
                let id = self.names.get(&own(primary)).copied();
                self.read_of(id.ok_or("No such master with specified name.")?, name, rest, may_run)
            }
            _ => Err(UNKNOWN.into()),
        }
    }

    fn read_own(&mut self, name: &str, word: &[u8]) -> Result<(), String> {
        let flag = || yes_or_no(word).ok_or(format!("Please specify yes or no for the {name} option."));
        let some = || Some(word).filter(|word| !word.is_empty());
        match name {
            "current-epoch" => self.epoch = self.epoch.max(leading_count(word)),
            "myid" if word.len() == ID_LEN => self.my_id = own(word),
            "myid" => return Err("Malformed Sentinel id in myid option.".into()),
            "announce-ip" => self.settings.announce_ip = some().map(own),
            "announce-port" => self.settings.announce_port = leading_number(word).try_into().unwrap_or(0),
            "sentinel-user" => self.settings.auth_user = some().map(<[u8]>::to_vec),
            "sentinel-pass" => self.settings.auth_pass = some().map(<[u8]>::to_vec),
            "resolve-hostnames" => self.settings.resolve_hostnames = flag()?,
            "announce-hostnames" => self.settings.announce_hostnames = flag()?,
            "deny-scripts-reconfig" => {
                let denied =
                    yes_or_no(word).ok_or("Please specify yes or no for the deny-scripts-reconfig options.")?;
                self.settings.allow_script_changes = !denied;
            }
            _ => return Err(UNKNOWN.into()),
        }
        Ok(())
    }

    fn read_of(&mut self, id: Id, name: &str, rest: &[&[u8]], may_run: &dyn Fn(&[u8]) -> bool) -> Result<(), String> {
        match (name, rest) {
            ("down-after-milliseconds", [ms]) => {
                self.it_mut(id).down_after_ms = positive(ms)?;
                self.spread_down_after(id);
            }
            ("failover-timeout", [ms]) => self.primary_mut(id).failover.timeout_ms = positive(ms)?,
            ("parallel-syncs", [count]) => self.primary_mut(id).parallel_syncs = leading_number(count),
            ("notification-script", [path]) => {
                if !may_run(path) {
                    return Err("Notification script seems non existing or non executable.".into());
                }
                self.primary_mut(id).notification_script = Some(path.to_vec());
            }
            ("client-reconfig-script", [path]) => {
                if !may_run(path) {
                    return Err("Client reconfiguration script seems non existing or non executable.".into());
                }
                self.primary_mut(id).client_reconfig_script = Some(path.to_vec());
            }
            ("auth-pass", [word]) => self.primary_mut(id).auth_pass = Some(word.to_vec()),
            ("auth-user", [word]) => self.primary_mut(id).auth_user = Some(word.to_vec()),
            ("config-epoch", [epoch]) => {
                let epoch = leading_count(epoch);
                self.primary_mut(id).config_epoch = epoch;
                self.epoch = self.epoch.max(epoch);
            }
            ("leader-epoch", [epoch]) => self.primary_mut(id).leader_epoch = leading_count(epoch),
            ("known-slave" | "known-replica", [host, port]) => {
                let added = self.add_replica(id, &own(host), leading_number(port));
                return added.map(drop).map_err(|fault| fault.text(Kind::Replica).into());
            }
            ("known-sentinel", [host, port, run_id]) => {
                let added = self.add_sentinel(id, &own(host), leading_number(port), &own(run_id));
                return added.map(drop).map_err(|fault| fault.text(Kind::Sentinel).into());
            }
            // The form of old versions, without an id, tells nothing of use.
            ("known-sentinel", _) => {}
            ("rename-command", [old, new]) => {
                let entry = (old.to_vec(), new.to_vec());
                if self.primary_mut(id).renamed.insert(old.to_ascii_uppercase(), entry).is_some() {
                    return Err("Same command renamed multiple times with rename-command.".into());
                }
            }
            ("master-reboot-down-after-period", [ms]) => {
                let ms = Some(leading_number(ms)).filter(|ms| *ms >= 0).ok_or("negative time parameter.")?;
                self.primary_mut(id).reboot_down_after_ms = ms;
            }
            _ => return Err(UNKNOWN.into()),
        }
        Ok(())
    }

    /// All lines of now.
    pub fn lines(&self) -> Vec<SentinelLine> {
        let mut lines = Lines::default();
        let settings = &self.settings;
        lines.add("myid", &[self.my_id.as_bytes()]);
        for (option, value, default) in [
            ("deny-scripts-reconfig", !settings.allow_script_changes, true),
            ("resolve-hostnames", settings.resolve_hostnames, false),
            ("announce-hostnames", settings.announce_hostnames, false),
        ] {
            lines.add(option, &[if value { b"yes" } else { b"no" }]);
            lines.mark_default(value == default);
        }
        self.names.values().for_each(|id| self.lines_of(*id, &mut lines));
        lines.add_number("current-epoch", self.epoch);
        if let Some(ip) = &settings.announce_ip {
            // As stock writes it: quoted whether or not that is needed.
            lines.push("announce-ip", [b"sentinel announce-ip ", quote(ip.as_bytes()).as_slice()].concat());
        }
        if settings.announce_port != 0 {
            lines.add_number("announce-port", u64::from(settings.announce_port));
        }
        if let Some(user) = &settings.auth_user {
            lines.add("sentinel-user", &[user]);
        }
        if let Some(password) = &settings.auth_pass {
            lines.add("sentinel-pass", &[password]);
        }
        lines.0
    }

    fn lines_of(&self, id: Id, lines: &mut Lines) {
        let (instance, primary) = (self.it(id), self.primary(id));
        let name = instance.name.as_bytes();
        let current = self.current_address(id);
        let text = |number: &dyn std::fmt::Display| number.to_string().into_bytes();
        let place = |address: &super::address::Address| (self.shown(address).as_bytes().to_vec(), text(&address.port));
        let (host, port) = place(current);
        lines.add("monitor", &[name, &host, &port, &text(&primary.quorum)]);
        // Those of a fresh start, whatever SENTINEL DEBUG has made of them.
        let defaults = Periods::default();
        for (option, value, default) in [
            ("down-after-milliseconds", instance.down_after_ms, defaults.default_down_after),
            ("failover-timeout", primary.failover.timeout_ms, defaults.default_failover_timeout),
            ("parallel-syncs", primary.parallel_syncs, PARALLEL_SYNCS),
        ] {
            lines.add(option, &[name, &text(&value)]);
            lines.mark_default(value == default);
        }
        for (option, value) in [
            ("notification-script", &primary.notification_script),
            ("client-reconfig-script", &primary.client_reconfig_script),
            ("auth-pass", &primary.auth_pass),
            ("auth-user", &primary.auth_user),
        ] {
            if let Some(value) = value {
                lines.add(option, &[name, value]);
            }
        }
        lines.add("master-reboot-down-after-period", &[name, &text(&primary.reboot_down_after_ms)]);
        lines.mark_default(primary.reboot_down_after_ms == 0);
        lines.add("config-epoch", &[name, &text(&primary.config_epoch)]);
        lines.add("leader-epoch", &[name, &text(&primary.leader_epoch)]);
        for replica in primary.replicas.values() {
            // After a promotion the file names the new primary already, so the old one stands here in its place.
            let address = &self.it(*replica).addr;
            let (host, port) = place(if address.is_same(current) { &instance.addr } else { address });
            lines.add("known-replica", &[name, &host, &port]);
        }
        for sentinel in primary.sentinels.values() {
            let sentinel = self.it(*sentinel);
            let (host, port) = place(&sentinel.addr);
            lines.add("known-sentinel", &[name, &host, &port, sentinel.name.as_bytes()]);
        }
        for (old, new) in primary.renamed.values() {
            lines.add("rename-command", &[name, old, new]);
        }
    }
}

#[derive(Default)]
struct Lines(Vec<SentinelLine>);

impl Lines {
    fn add(&mut self, option: &str, words: &[&[u8]]) {
        let mut line = format!("sentinel {option}").into_bytes();
        for word in words {
            line.push(b' ');
            // Words that the reader would take apart are quoted; stock writes them bare, and cannot read them again.
            let is_plain =
                !word.is_empty() && word.iter().all(|byte| byte.is_ascii_graphic() && !b"\"'".contains(byte));
            if is_plain { line.extend_from_slice(word) } else { line.extend(quote(word)) }
        }
        self.push(option, line);
    }

    fn push(&mut self, option: &str, text: Vec<u8>) {
        self.0.push(SentinelLine { option: format!("sentinel {option}"), text, is_default: false });
    }

    /// Of the line that was added last.
    fn mark_default(&mut self, is_default: bool) {
        if let Some(line) = self.0.last_mut() {
            line.is_default = is_default;
        }
    }

    fn add_number(&mut self, option: &str, number: u64) {
        self.add(option, &[number.to_string().as_bytes()]);
    }
}

const UNKNOWN: &str = "Unrecognized sentinel configuration statement.";

/// Lines about a primary, and how many words follow its name.
const OF_PRIMARIES: &[(&str, usize)] = &[
    ("down-after-milliseconds", 1),
    ("failover-timeout", 1),
    ("parallel-syncs", 1),
    ("notification-script", 1),
    ("client-reconfig-script", 1),
    ("auth-pass", 1),
    ("auth-user", 1),
    ("config-epoch", 1),
    ("leader-epoch", 1),
    ("known-slave", 2),
    ("known-replica", 2),
    ("known-sentinel", 2),
    ("known-sentinel", 3),
    ("rename-command", 2),
    ("master-reboot-down-after-period", 1),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::quoting::split_args;
    use crate::sentinel::address::Names;

    struct Book;

    impl Names for Book {
        fn resolve(&self, host: &str) -> Option<String> {
            (host == "db.example").then(|| "10.9.9.9".into())
        }
    }

    /// Reads a text as it would stand in the file.
    fn read(text: &str) -> Result<Core, String> {
        let mut core = Core::new(1, 1, Box::new(Book));
        let lines: Vec<Vec<Vec<u8>>> =
            text.lines().map(|line| split_args(line.as_bytes()).unwrap()[1..].to_vec()).collect();
        for now in 0..3 {
            for words in lines.iter().filter(|words| turn(words) == now) {
                core.read_line(words, &|path| path != b"/no")?;
            }
        }
        Ok(core)
    }

    fn written(core: &Core) -> String {
        let lines = core.lines().into_iter().filter(|line| !line.is_default);
        lines.map(|line| String::from_utf8(line.text).unwrap() + "\n").collect()
    }

    const ID: &str = "0123456789012345678901234567890123456789";

    #[test]
    fn what_is_written_is_read_back_to_the_letter() {
        let text = format!(
            "sentinel myid {ID}\nsentinel deny-scripts-reconfig no\nsentinel resolve-hostnames yes\n\
             sentinel announce-hostnames yes\nsentinel monitor a db.example 6379 2\n\
             sentinel down-after-milliseconds a 5000\nsentinel failover-timeout a 60000\nsentinel parallel-syncs a 3\n\
             sentinel notification-script a /yes\nsentinel client-reconfig-script a /yes\n\
             sentinel auth-pass a \"two words\"\nsentinel auth-user a me\n\
             sentinel master-reboot-down-after-period a 7\nsentinel config-epoch a 9\nsentinel leader-epoch a 8\n\
             sentinel known-replica a 10.0.0.2 6380\nsentinel known-sentinel a 10.0.0.3 26379 {ID}\n\
             sentinel rename-command a config hidden\nsentinel current-epoch 9\nsentinel announce-ip \"10.0.0.9\"\n\
             sentinel announce-port 7777\nsentinel sentinel-user other\nsentinel sentinel-pass secret\n"
        );
        let core = read(&text).expect("good lines");
        assert_eq!(written(&core), text);
        // Whatever the order of the lines.
        let reversed: Vec<&str> = text.lines().rev().collect();
        assert_eq!(written(&read(&reversed.join("\n")).expect("good lines")), text);
    }

    #[test]
    fn faults_are_told_as_stock_tells_them() {
        for (line, reason) in [
            ("sentinel monitor a 10.0.0.1 1 0", "Quorum must be 1 or greater."),
            ("sentinel monitor a 10.0.0.1 65536 1", "Invalid port number."),
            ("sentinel monitor a nobody 1 1", "Can't resolve instance hostname."),
            ("sentinel monitor a 10.0.0.1 1 1\nsentinel monitor a 10.0.0.2 1 1", "Duplicate master name."),
            ("sentinel parallel-syncs b 1", "No such master with specified name."),
            ("sentinel monitor a 10.0.0.1 1 1\nsentinel failover-timeout a x", "negative or zero time parameter."),
            ("sentinel myid x", "Malformed Sentinel id in myid option."),
            ("sentinel resolve-hostnames maybe", "Please specify yes or no for the resolve-hostnames option."),
            ("sentinel bogus a 1", "Unrecognized sentinel configuration statement."),
            ("sentinel monitor a 10.0.0.1 1", "Unrecognized sentinel configuration statement."),
            (
                "sentinel monitor a 10.0.0.1 1 1\nsentinel notification-script a /no",
                "Notification script seems non existing or non executable.",
            ),
        ] {
            assert_eq!(read(line).map(|_| ()), Err(reason.to_owned()), "{line}");
        }
    }
}
