//! CLUSTER SLOTS, SHARDS and LINKS: the view as nested replies.

use super::bus::Bus;
use super::machine::Machine;
use super::machine::node::{Id, Node};
use crate::base::crc16::SLOTS;
use crate::resp::Reply;
use crate::server::config::{ClusterPreferredEndpointType, Config};

/// How addresses are shown to a client.
pub struct Shown<'a> {
    pub config: &'a Config,
    /// The cluster speaks TLS, but the client does not.
    pub plain_ports: bool,
}

/// A replica that has something to serve.
fn is_available(machine: &Machine, id: Id) -> bool {
    !machine.node(id).is_failed() && machine.offset_of(id) != 0
}

pub fn slots(machine: &Machine, shown: &Shown<'_>, reply: &mut Reply) {
    let mark = reply.begin();
    let (mut count, mut first) = (0, 0);
    while first < SLOTS {
        let owner = machine.owner(first);
        let last = (first..SLOTS).take_while(|slot| machine.owner(*slot) == owner).last().unwrap_or(first);
        if let Some(owner) = owner {
            let replicas: Vec<Id> = machine.replicas_of(owner).filter(|id| is_available(machine, *id)).collect();
            reply.array(3 + replicas.len());
            reply.integer(i64::from(first));
            reply.integer(i64::from(last));
            for id in [owner].into_iter().chain(replicas) {
                node_of_slots(machine.node(id), shown, reply);
            }
            count += 1;
        }
        first = last + 1;
    }
    reply.end_array(mark, count);
}

fn node_of_slots(node: &Node, shown: &Shown<'_>, reply: &mut Reply) {
    use ClusterPreferredEndpointType::{Hostname, Ip, UnknownEndpoint};
    let preferred = shown.config.cluster_preferred_endpoint_type;
    reply.array(4);
    match preferred {
        Ip => reply.bulk(node.ip.as_bytes()),
        Hostname if node.hostname.is_empty() => reply.bulk(b"?"),
        Hostname => reply.bulk(node.hostname.as_bytes()),
        UnknownEndpoint => reply.null(),
    }
    let is_plain = shown.plain_ports && node.plain_port != 0;
    reply.integer(i64::from(if is_plain { node.plain_port } else { node.port }));
    reply.bulk(&node.name.0);
    // Whatever is known of the address besides.
    let shows_ip = preferred != Ip;
    let shows_hostname = preferred != Hostname && !node.hostname.is_empty();
    reply.map(usize::from(shows_ip) + usize::from(shows_hostname));
    if shows_ip {
        reply.bulk(b"ip");
        reply.bulk(node.ip.as_bytes());
    }
    if shows_hostname {
        reply.bulk(b"hostname");
        reply.bulk(node.hostname.as_bytes());
    }
}

pub fn shards(machine: &Machine, shown: &Shown<'_>, reply: &mut Reply) {
    let primaries: Vec<Id> = machine.nodes().filter(|(_, node)| node.is_primary()).map(|(id, _)| id).collect();
    reply.array(primaries.len());
    for primary in primaries {
        let ranges = machine.node(primary).slots.ranges();
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(ranges.len() * 2);
        for (first, last) in ranges {
            reply.integer(i64::from(first));
            reply.integer(i64::from(last));
        }
        reply.bulk(b"nodes");
        let nodes: Vec<Id> = [primary].into_iter().chain(machine.replicas_of(primary)).collect();
        reply.array(nodes.len());
        nodes.into_iter().for_each(|id| node_of_shard(machine, id, shown.config, reply));
    }
}

fn node_of_shard(machine: &Machine, id: Id, config: &Config, reply: &mut Reply) {
    let (node, offset) = (machine.node(id), machine.offset_of(id));
    let (plain_port, tls_port) = if config.tls_cluster { (node.plain_port, node.port) } else { (node.port, 0) };
    let endpoint = match config.cluster_preferred_endpoint_type {
        ClusterPreferredEndpointType::Ip => node.ip.as_str(),
        ClusterPreferredEndpointType::Hostname if node.hostname.is_empty() => "?",
        ClusterPreferredEndpointType::Hostname => node.hostname.as_str(),
        ClusterPreferredEndpointType::UnknownEndpoint => "",
    };
    let health = if node.is_failed() {
        "fail"
    } else if node.is_replica() && offset == 0 {
        "loading"
    } else {
        "online"
    };
    let has_hostname = !node.hostname.is_empty();
    reply.map(6 + usize::from(plain_port != 0) + usize::from(tls_port != 0) + usize::from(has_hostname));
    let mut text = |name: &str, value: &[u8]| {
        reply.bulk(name.as_bytes());
        reply.bulk(value);
    };
    text("id", &node.name.0);
    for (name, port) in [("port", plain_port), ("tls-port", tls_port)].into_iter().filter(|(_, port)| *port != 0) {
        reply.bulk(name.as_bytes());
        reply.integer(i64::from(port));
    }
    let mut text = |name: &str, value: &[u8]| {
        reply.bulk(name.as_bytes());
        reply.bulk(value);
    };
    text("ip", node.ip.as_bytes());
    text("endpoint", endpoint.as_bytes());
    if has_hostname {
        text("hostname", node.hostname.as_bytes());
    }
    text("role", if node.is_replica() { b"replica" } else { b"master" });
    reply.bulk(b"replication-offset");
    reply.integer(offset as i64);
    reply.bulk(b"health");
    reply.bulk(health.as_bytes());
}

pub fn links(bus: &Bus, machine: &Machine, reply: &mut Reply) {
    let mark = reply.begin();
    let mut count = 0;
    for (_, node) in machine.nodes() {
        for id in [node.link, node.inbound].into_iter().flatten() {
            let Some(link) = machine.link(id) else { continue };
            let waiting = bus.waiting_bytes(id);
            reply.map(6);
            reply.bulk(b"direction");
            reply.bulk(if link.is_inbound { b"from" } else { b"to" });
            reply.bulk(b"node");
            reply.bulk(&node.name.0);
            reply.bulk(b"create-time");
            reply.integer(link.created_ms);
            reply.bulk(b"events");
            reply.bulk(if waiting > 0 { b"rw" } else { b"r" });
            reply.bulk(b"send-buffer-allocated");
            reply.count(waiting);
            reply.bulk(b"send-buffer-used");
            reply.count(waiting);
            count += 1;
        }
    }
    reply.end_array(mark, count);
}
