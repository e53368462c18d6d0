//! The data servers, as far as a sentinel can tell: whom they follow, how far they are, and what INFO says of it.

use super::world::{DATA_PORT, World, ip, node_at};

pub struct DataServer {
    pub run: u64,
    pub follows: Option<String>,
    pub link_up: bool,
    pub link_down_since_ms: i64,
    pub offset: u64,
    pub priority: i64,
}

impl World {
    /// Whom a server really gets its data from.
    pub(super) fn source(&self, node: usize) -> Option<usize> {
        let primary = node_at(self.servers[node].follows.as_deref()?)?;
        let is_there = primary < self.servers.len() && self.up[primary] && self.reaches(node, primary);
        (is_there && primary != node).then_some(primary)
    }

    pub(super) fn replicate(&mut self) {
        for node in 0..self.servers.len() {
            if !self.up[node] {
                continue;
            }
            if self.servers[node].follows.is_none() {
                self.servers[node].offset += self.dice.below(50);
                continue;
            }
            let source = self.source(node).map(|source| self.servers[source].offset);
            let (now_ms, server) = (self.now_ms, &mut self.servers[node]);
            if server.link_up && source.is_none() {
                server.link_down_since_ms = now_ms;
            }
            server.link_up = source.is_some();
            server.offset = source.unwrap_or(server.offset);
        }
    }

    pub(super) fn info(&self, node: usize) -> String {
        let server = &self.servers[node];
        let mut text = format!("# Server\r\nrun_id:{:040x}\r\n", server.run);
        match &server.follows {
            None => {
                text += "role:master\r\n";
                let replicas = (0..self.servers.len()).filter(|other| self.servers[*other].link_up && self.up[*other]);
                for (index, other) in replicas.filter(|other| self.source(*other) == Some(node)).enumerate() {
                    text += &format!("slave{index}:ip={},port={DATA_PORT},state=online\r\n", ip(other));
                }
            }
            Some(primary) => {
                let link = if server.link_up { "up" } else { "down" };
                text += &format!("role:slave\r\nmaster_host:{primary}\r\nmaster_port:{DATA_PORT}\r\n");
                text += &format!("master_link_status:{link}\r\n");
                if !server.link_up {
                    let down_s = (self.now_ms - server.link_down_since_ms) / 1000;
                    text += &format!("master_link_down_since_seconds:{down_s}\r\n");
                }
                let (offset, priority) = (server.offset, server.priority);
                text += &format!("slave_repl_offset:{offset}\r\nslave_priority:{priority}\r\nreplica_announced:1\r\n");
            }
        }
        text
    }

    pub(super) fn follow(&mut self, node: usize, host: &str) {
        let follows = (host != "NO").then(|| host.to_owned());
        self.note(node, &format!("REPLICAOF {host}"));
        let (now_ms, server) = (self.now_ms, &mut self.servers[node]);
        if server.follows != follows {
            (server.follows, server.link_up, server.link_down_since_ms) = (follows, false, now_ms);
        }
    }
}
