//! What happens to the world: crashes and starts, also in the middle of something, pauses, clocks that jump.

use super::world::{NoNames, SENTINEL_PORT, What, World};
use crate::sentinel::core::Core;
use crate::sentinel::file;

impl World {
    pub fn crash(&mut self, node: usize) {
        if !self.up[node] {
            return;
        }
        self.note(node, "CRASH");
        self.up[node] = false;
        self.lives[node] += 1;
        let from: Vec<u64> = self.wires.iter().filter(|(_, wire)| wire.from == node).map(|(id, _)| *id).collect();
        from.into_iter().for_each(|wire| self.drop_wire(wire));
        let to: Vec<u64> = self.wires.iter().filter(|(_, wire)| wire.to == node).map(|(id, _)| *id).collect();
        for wire in to {
            let delay_ms = self.delay();
            self.at(delay_ms, What::Refused { wire });
        }
        if node >= self.servers.len() {
            let watcher = self.watcher(node);
            (watcher.core, watcher.dies_after) = (None, None);
        } else {
            self.servers[node].link_up = false;
        }
    }

    /// The disk of a sentinel has kept nothing but its id and what it was told at first.
    pub fn forget(&mut self, node: usize) {
        let is_first = |line: &Vec<u8>| {
            ["myid", "monitor", "down-after", "failover-timeout"]
                .iter()
                .any(|name| line.starts_with(format!("sentinel {name}").as_bytes()))
        };
        self.watcher(node).file.retain(is_first);
    }

    /// A sentinel crashes in the middle of what it does next.
    pub fn crash_soon(&mut self, node: usize) {
        let after = self.dice.below(6) as usize;
        self.watcher(node).dies_after = Some(after);
    }

    pub fn boot(&mut self, node: usize) {
        self.up[node] = true;
        if node < self.servers.len() {
            self.servers[node].run = self.dice.next_u64();
            self.servers[node].link_down_since_ms = self.now_ms;
            return self.note(node, "START");
        }
        let now_ms = self.now_ms + self.watcher(node).skew_ms;
        let mut core = Core::new(now_ms, self.dice.next_u64(), Box::new(NoNames));
        core.settings.port = SENTINEL_PORT;
        let lines: Vec<Vec<Vec<u8>>> = self
            .watcher(node)
            .file
            .iter()
            .map(|line| line.split(|byte| *byte == b' ').skip(1).map(<[u8]>::to_vec).collect())
            .collect();
        for turn in 0..3 {
            for words in lines.iter().filter(|words| file::turn(words) == turn) {
                core.read_line(words, &|_| true).expect("what was written is read");
            }
        }
        core.begin(now_ms, || unreachable!("it has its id"));
        self.watcher(node).core = Some(core);
        self.note(node, "START");
        let life = self.lives[node];
        self.at(10, What::Tick { node, life });
    }

    /// Stands still for a while; what comes meanwhile is served all the same, which is worse than in life.
    pub fn pause(&mut self, node: usize, ms: i64) {
        let until_ms = self.now_ms + ms;
        self.note(node, "PAUSE");
        self.watcher(node).paused_until_ms = until_ms;
    }

    pub fn shift_clock(&mut self, node: usize, ms: i64) {
        self.note(node, &format!("CLOCK {ms}"));
        self.watcher(node).skew_ms += ms;
    }

    /// Everybody runs, reaches everybody, and dies no more.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.delay_max_ms = 5;
        for node in 0..self.nodes() {
            if node >= self.servers.len() {
                self.watcher(node).dies_after = None;
            }
            if !self.up[node] {
                self.boot(node);
            }
        }
    }
}
