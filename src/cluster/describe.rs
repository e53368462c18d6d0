//! The node's view of the cluster as text: lines of CLUSTER NODES, which are those of its file, too; CLUSTER INFO.

use super::machine::node::{Id, Node, flag};
use super::machine::{Health, Machine};
use super::message::KIND_NAMES;
use crate::base::crc16::SLOTS;
use std::collections::BTreeSet;
use std::fmt::Write;

/// Lines for all nodes that have none of the flags of `without`. `plain_ports` shows those who do not speak TLS their port.
pub fn nodes(machine: &Machine, without: u16, plain_ports: bool) -> String {
    let mut text = String::new();
    for (id, node) in machine.nodes().filter(|(_, node)| !node.has(without)) {
        text.push_str(&node_line(machine, id, node, plain_ports));
        text.push('\n');
    }
    text
}

pub fn node_line(machine: &Machine, id: Id, node: &Node, plain_ports: bool) -> String {
    let port = if plain_ports && node.plain_port != 0 { node.plain_port } else { node.port };
    let mut text = format!("{} {}:{port}@{}", node.name, node.ip, node.bus_port);
    if !node.hostname.is_empty() {
        text.push(',');
        text.push_str(&node.hostname);
    }
    text.push(' ');
    text.push_str(&flags(node.flags));
    let primary = node.primary.map(|primary| machine.node(primary));
    let epoch = primary.filter(|_| node.is_replica()).unwrap_or(node).config_epoch;
    let is_linked = node.link.is_some() || id == machine.myself;
    // Writing into a String cannot fail.
    let _ = write!(
        text,
        " {} {} {} {epoch} {}",
        primary.map_or("-".into(), |primary| primary.name.to_string()),
        node.ping_sent_ms,
        node.pong_received_ms,
        if is_linked { "connected" } else { "disconnected" }
    );
    for (first, last) in node.slots.ranges() {
        let _ = if first == last { write!(text, " {first}") } else { write!(text, " {first}-{last}") };
    }
    if id == machine.myself {
        let open: BTreeSet<u16> = machine.migrating.keys().chain(machine.importing.keys()).copied().collect();
        for slot in open {
            if let Some(to) = machine.migrating.get(&slot) {
                let _ = write!(text, " [{slot}->-{}]", machine.node(*to).name);
            } else if let Some(from) = machine.importing.get(&slot) {
                let _ = write!(text, " [{slot}-<-{}]", machine.node(*from).name);
            }
        }
    }
    text
}

fn flags(flags: u16) -> String {
    let names: Vec<&str> = flag::NAMES.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, name)| *name).collect();
    if names.is_empty() { "noflags".into() } else { names.join(",") }
}

pub fn info(machine: &Machine) -> String {
    let owners = || (0..SLOTS).filter_map(|slot| machine.owner(slot)).map(|owner| machine.node(owner));
    let failed = owners().filter(|node| node.is_failed()).count();
    let suspected = owners().filter(|node| !node.is_failed() && node.has(flag::SUSPECTED)).count();
    let assigned = owners().count();
    let me = machine.me();
    let my_epoch = me.primary.filter(|_| me.is_replica()).map_or(me, |primary| machine.node(primary)).config_epoch;
    let mut text = format!(
        "cluster_state:{}\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_ok:{}\r\ncluster_slots_pfail:{suspected}\r\n\
         cluster_slots_fail:{failed}\r\ncluster_known_nodes:{}\r\ncluster_size:{}\r\ncluster_current_epoch:{}\r\n\
         cluster_my_epoch:{my_epoch}\r\n",
        if machine.health == Health::Ok { "ok" } else { "fail" },
        assigned - failed - suspected,
        machine.nodes().count(),
        machine.size,
        machine.current_epoch,
    );
    for (counts, what) in [(&machine.sent, "sent"), (&machine.received, "received")] {
        for (name, count) in KIND_NAMES.iter().zip(counts).filter(|(_, count)| **count > 0) {
            let _ = write!(text, "cluster_stats_messages_{name}_{what}:{count}\r\n");
        }
        let _ = write!(text, "cluster_stats_messages_{what}:{}\r\n", counts.iter().sum::<u64>());
    }
    let _ = write!(text, "total_cluster_links_buffer_limit_exceeded:{}\r\n", machine.links_over_limit);
    text
}
