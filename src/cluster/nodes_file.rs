//! The file in which a node keeps its view (cluster-config-file): the lines of CLUSTER NODES, and `vars` with the epochs. Stock Redis
//! reads what we write, and the other way round.
//!
//! It is locked as long as the process lives, so that no two nodes share one; and therefore written in place: with one write, padded
//! with empty lines up to its old length, then cut. Whatever a crash leaves of that can be read.

use super::describe;
use super::machine::node::{Name, Node, flag};
use super::machine::{Machine, Settings, Surroundings};
use crate::base::quoting;
use crate::base::random::Random;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};

pub struct NodesFile {
    file: File,
}

impl NodesFile {
    /// Opens the file, or makes an empty one, and locks it.
    pub fn open(path: &str) -> Result<Self, String> {
        let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o644).open(path);
        let file = file.map_err(|error| format!("Can't open {path} in order to acquire a lock: {error}"))?;
        match file.try_lock() {
            Ok(()) => Ok(NodesFile { file }),
            Err(std::fs::TryLockError::WouldBlock) => Err(format!(
                "Sorry, the cluster configuration file {path} is already used by a different Redis Cluster node. Please make \
                 sure that different nodes use different cluster configuration files."
            )),
            Err(std::fs::TryLockError::Error(error)) => Err(format!("Impossible to lock {path}: {error}")),
        }
    }

    pub fn read(&self) -> io::Result<String> {
        let mut bytes = vec![0; self.file.metadata()?.len() as usize];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub fn write(&self, text: &str, sync: bool) -> io::Result<()> {
        let old_len = self.file.metadata()?.len() as usize;
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(bytes.len().max(old_len), b'\n');
        self.file.write_all_at(&bytes, 0)?;
        if sync {
            self.file.sync_data()?;
        }
        if bytes.len() > text.len() {
            self.file.set_len(text.len() as u64)?;
        }
        Ok(())
    }
}

pub fn text(machine: &Machine) -> String {
    format!(
        "{}vars currentEpoch {} lastVoteEpoch {}\n",
        describe::nodes(machine, flag::HANDSHAKE, false),
        machine.current_epoch,
        machine.last_vote_epoch()
    )
}

/// A node as its file knows it.
pub fn parse(text: &str, settings: Settings, around: Surroundings, random: Random) -> Option<Machine> {
    let mut machine = Machine::empty(settings, around, random);
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let words = quoting::split_args(line.as_bytes())?;
        let words: Vec<String> = words.into_iter().map(|word| String::from_utf8_lossy(&word).into_owned()).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [first, vars @ ..] if first.eq_ignore_ascii_case("vars") => {
                if vars.len() % 2 != 0 {
                    return None;
                }
                vars.chunks_exact(2).for_each(|pair| machine.restore_var(pair[0], pair[1]));
            }
            [name, place, flags, primary, ping, pong, epoch, _, slots @ ..] => {
                let id = machine.restore_node(Name::parse(name.as_bytes())?);
                let node = machine.restored(id);
                read_place(node, place)?;
                read_flags(node, flags, around.now_ms)?;
                node.ping_sent_ms = if *ping == "0" { 0 } else { around.now_ms };
                node.pong_received_ms = if *pong == "0" { 0 } else { around.now_ms };
                let is_replica = node.is_replica();
                if *primary != "-" {
                    let primary = machine.restore_node(Name::parse(primary.as_bytes())?);
                    machine.restore_primary(primary, id);
                }
                if !is_replica || *primary == "-" {
                    machine.restored(id).config_epoch = epoch.parse().ok()?;
                }
                for slot in slots {
                    read_slots(&mut machine, id, slot)?;
                }
            }
            _ => return None,
        }
    }
    machine.restore_end().then_some(machine)
}

/// `ip:port[@bus-port][,hostname[,key=value…]]`
fn read_place(node: &mut Node, text: &str) -> Option<()> {
    let mut parts = text.split(',');
    let (ip, ports) = parts.next()?.rsplit_once(':')?;
    let (port, bus_port) = ports.split_once('@').unwrap_or((ports, ""));
    node.ip = ip.to_owned();
    node.port = port.parse().ok()?;
    node.bus_port = if bus_port.is_empty() { node.port.checked_add(10_000)? } else { bus_port.parse().ok()? };
    node.hostname = parts.next().filter(|name| !name.contains('=')).unwrap_or_default().to_owned();
    Some(())
}

fn read_flags(node: &mut Node, text: &str, now_ms: i64) -> Option<()> {
    for word in text.split(',').filter(|word| *word != "noflags") {
        let (bit, _) = flag::NAMES.iter().find(|(_, name)| name.eq_ignore_ascii_case(word))?;
        node.set(*bit, true);
    }
    if node.is_failed() {
        node.failed_ms = now_ms;
    }
    Some(())
}

fn read_slots(machine: &mut Machine, id: u32, text: &str) -> Option<()> {
    let number = |text: &str| text.parse::<u16>().ok().filter(|slot| *slot < crate::base::crc16::SLOTS);
    if let Some(open) = text.strip_prefix('[') {
        let (slot, rest) = open.strip_suffix(']')?.split_once('-')?;
        let (direction, name) = rest.split_once('-')?;
        let other = machine.restore_node(Name::parse(name.as_bytes())?);
        let slot = number(slot)?;
        match direction {
            ">" => machine.migrating.insert(slot, other),
            "<" => machine.importing.insert(slot, other),
            _ => return None,
        };
        return Some(());
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    (number(first)?..=number(last)?).for_each(|slot| machine.restore_slot(id, slot));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            node_timeout_ms: 1000,
            validity_factor: 10,
            repl_ping_period_ms: 10_000,
            migration_barrier: 1,
            allow_replica_migration: true,
            require_full_coverage: true,
            no_failover: false,
            ip: None,
            port: 7000,
            plain_port: 0,
            bus_port: 17000,
            hostname: String::new(),
        }
    }

    fn read(text: &str) -> Option<Machine> {
        parse(text, settings(), Surroundings { now_ms: 5, ..Surroundings::default() }, Random::seeded(1))
    }

    const STOCK: &str = "\
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 127.0.0.1:7000@17000 myself,master - 0 0 3 connected 0-5 9 [3->-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb] [77-<-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb]
bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb ::1:7001@17001,two.example master,fail? - 0 0 2 connected 77 100-200
cccccccccccccccccccccccccccccccccccccccc 127.0.0.1:7002@17002 slave bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb 0 0 2 disconnected
vars currentEpoch 7 lastVoteEpoch 4
";

    #[test]
    fn what_was_read_is_written_again() {
        let machine = read(STOCK).expect("it is in order");
        assert_eq!((machine.current_epoch, machine.last_vote_epoch()), (7, 4));
        let written = text(&machine);
        // Links are not kept.
        let expected = STOCK.replace("2 connected", "2 disconnected");
        assert_eq!(written, expected);
        assert_eq!(text(&read(&written).expect("our own")), written);
        // What a crash may leave behind.
        assert!(read(&format!("{STOCK}\n\n\n")).is_some());
    }

    #[test]
    fn damage_is_found() {
        for (good, bad) in [
            ("myself,master", "master"),
            ("vars currentEpoch 7 lastVoteEpoch 4", "vars currentEpoch 7 lastVoteEpoch"),
            ("0-5", "0-16384"),
            ("[3->-", "[3->"),
            ("fail?", "failing"),
            ("127.0.0.1:7002@17002", "127.0.0.1"),
            ("cccccccccccccccccccccccccccccccccccccccc", "CCCC"),
        ] {
            assert!(read(&STOCK.replacen(good, bad, 1)).is_none(), "{bad}");
        }
    }

    #[test]
    fn a_shorter_text_leaves_nothing_of_a_longer_one() {
        let path = std::env::temp_dir().join(format!("nodes-{}.conf", std::process::id()));
        let path = path.to_str().expect("plain");
        let file = NodesFile::open(path).expect("new");
        assert!(NodesFile::open(path).is_err(), "it is locked");
        file.write("a long text\nof lines\n", true).expect("written");
        file.write("short\n", false).expect("written");
        assert_eq!(file.read().expect("read"), "short\n");
        drop(file);
        assert!(NodesFile::open(path).is_ok());
        std::fs::remove_file(path).expect("removed");
    }
}
