//! Filling a machine from the node's file.

use super::Machine;
use super::node::{Id, Name, Node, flag};

impl Machine {
    /// A pair of the line `vars`; what newer versions may add is passed over.
    pub fn restore_var(&mut self, name: &str, value: &str) {
        let value = value.parse().unwrap_or(0);
        if name.eq_ignore_ascii_case("currentEpoch") {
            self.current_epoch = value;
        } else if name.eq_ignore_ascii_case("lastVoteEpoch") {
            self.last_vote_epoch = value;
        } else {
            tracing::warn!("Skipping unknown cluster config variable '{name}'");
        }
    }

    /// The node of a name; lines may speak of nodes whose own line comes later.
    pub fn restore_node(&mut self, name: Name) -> Id {
        let now_ms = self.now();
        self.find(&name).unwrap_or_else(|| self.add_node(Node::new(name, 0, now_ms)))
    }

    pub fn restored(&mut self, id: Id) -> &mut Node {
        self.node_mut(id)
    }

    pub fn restore_primary(&mut self, primary: Id, replica: Id) {
        self.attach(primary, replica);
    }

    pub fn restore_slot(&mut self, id: Id, slot: u16) {
        if self.owner(slot).is_none() {
            self.add_slot(id, slot);
        }
    }

    /// False if the file does not say which of the nodes this is.
    pub fn restore_end(&mut self) -> bool {
        let own: Vec<Id> = self.nodes().filter(|(_, node)| node.has(flag::MYSELF)).map(|(id, _)| id).collect();
        let [myself] = own[..] else { return false };
        self.myself = myself;
        self.current_epoch = self.max_epoch();
        self.configure(self.settings.clone());
        true
    }
}
