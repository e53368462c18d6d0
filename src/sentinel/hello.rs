//! The hello channel: how sentinels find each other, and how a new configuration spreads.
//!
//! ```text
//!   ip,port,id,current epoch,primary's name,its ip,its port,its config epoch
//!   └── the sentinel ──────┘ └── what it believes ──────────────────────────┘      the higher config epoch wins
//! ```
//! It goes through every primary and replica, and, with the same words, straight to the other sentinels.

use super::action::{Action, Level};
use super::address::{leading_count, leading_number};
use super::core::Core;
use super::failover::Part;
use super::instance::{Id, Request};

pub const HELLO_CHANNEL: &[u8] = b"__sentinel__:hello";

/// What a sentinel says of itself and of a primary.
#[derive(Debug, PartialEq, Eq)]
struct Hello {
    host: String,
    port: i64,
    run_id: String,
    epoch: u64,
    name: String,
    primary_host: String,
    primary_port: i64,
    config_epoch: u64,
}

impl Hello {
    fn parse(text: &[u8]) -> Option<Hello> {
        let parts: Vec<&[u8]> = text.split(|byte| *byte == b',').collect();
        let own = |part: &[u8]| String::from_utf8_lossy(part).into_owned();
        match parts.as_slice() {
            [host, port, run_id, epoch, name, primary_host, primary_port, config_epoch] => Some(Hello {
                host: own(host),
                port: leading_number(port),
                run_id: own(run_id),
                epoch: leading_count(epoch),
                name: own(name),
                primary_host: own(primary_host),
                primary_port: leading_number(primary_port),
                config_epoch: leading_count(config_epoch),
            }),
            _ => None,
        }
    }
}

impl Core {
    pub(super) fn send_hello(&mut self, id: Id) {
        let primary = self.primary_of(id);
        let link = self.link(id);
        if link.disconnected {
            return;
        }
        let local_ip = link.commands.as_ref().and_then(|conn| conn.local_ip.clone());
        let Some(host) = self.settings.announce_ip.clone().or(local_ip) else { return };
        let port = if self.settings.announce_port != 0 { self.settings.announce_port } else { self.settings.port };
        let address = self.current_address(primary);
        let text = format!(
            "{host},{port},{},{},{},{},{},{}",
            self.my_id,
            self.epoch,
            self.it(primary).name,
            self.shown(address),
            address.port,
            self.primary(primary).config_epoch
        );
        self.command(id, Request::Publish, "PUBLISH", &[HELLO_CHANNEL, text.as_bytes()]);
    }

    /// A message of the channel; our own come back to us.
    pub(super) fn hear(&mut self, text: &[u8]) {
        let is_ours = text.windows(self.my_id.len().max(1)).any(|part| part == self.my_id.as_bytes());
        if !is_ours {
            self.take_hello(text);
        }
    }

    /// A hello, through the channel or from a sentinel itself.
    pub fn take_hello(&mut self, text: &[u8]) {
        // Whoever has our address in his table may say our own hello back to us.
        let Some(hello) = Hello::parse(text).filter(|hello| hello.run_id != self.my_id) else { return };
        let Some(primary) = self.names.get(&hello.name).copied() else { return };
        let sentinel = self.find_sentinel(primary, &hello);
        if hello.epoch > self.epoch {
            self.epoch = hello.epoch;
            self.act(Action::Persist);
            self.event_about(Level::Warning, "+new-epoch", primary, self.epoch.to_string());
        }
        let Some(sentinel) = sentinel else { return };
        if self.primary(primary).config_epoch < hello.config_epoch {
            self.primary_mut(primary).config_epoch = hello.config_epoch;
            self.take_configuration(primary, sentinel, &hello);
        }
        // A switch keeps the sentinels.
        self.other_mut(sentinel).last_hello_ms = self.now_ms;
    }

    /// The sentinel that speaks; added if it is new, or has moved.
    fn find_sentinel(&mut self, primary: Id, hello: &Hello) -> Option<Id> {
        let address = self.address(&hello.host, hello.port, true).ok()?;
        let known = self.primary(primary).sentinels.get(&hello.run_id).copied();
        if let Some(known) = known.filter(|known| self.it(*known).addr.is_same(&address)) {
            return Some(known);
        }
        let has_moved = self.remove_sentinel(primary, &hello.run_id);
        if has_moved {
            let more = format!(" ip {} port {} for {}", hello.host, hello.port, hello.run_id);
            self.event_of(Level::Notice, "+sentinel-address-switch", primary, &more);
        } else {
            // Whoever had this address has another id now, or somewhere else to be.
            let at_address =
                self.sentinel_ids(primary).into_iter().find(|other| self.it(*other).addr.is_same(&address));
            if let Some(other) = at_address {
                self.event_of(Level::Notice, "+sentinel-invalid-addr", other, "");
                let run_id = self.it(other).name.clone();
                for primary in self.primary_ids() {
                    self.remove_sentinel(primary, &run_id);
                }
            }
        }
        let added = self.add_sentinel(primary, &hello.host, hello.port, &hello.run_id).ok()?;
        if has_moved {
            self.move_sentinel_everywhere(added);
        } else {
            self.event_of(Level::Notice, "+sentinel", added, "");
        }
        self.act(Action::Persist);
        Some(added)
    }

    /// The same sentinel, as one of other primaries, has moved too.
    fn move_sentinel_everywhere(&mut self, id: Id) {
        let (run_id, address) = (self.it(id).name.clone(), self.it(id).addr.clone());
        let mut moved = 0;
        for primary in self.primary_ids() {
            let Some(other) = self.primary(primary).sentinels.get(&run_id).copied() else { continue };
            self.close_link(self.it(other).link);
            if other != id {
                self.it_mut(other).addr = address.clone();
                moved += 1;
            }
        }
        if moved > 0 {
            let more = format!(" {moved} additional matching instances");
            self.event_of(Level::Notice, "+sentinel-address-update", id, &more);
        }
    }

    /// Somebody has failed over since: what he says counts.
    fn take_configuration(&mut self, primary: Id, sentinel: Id, hello: &Hello) {
        let old = self.it(primary).addr.clone();
        if hello.primary_port == i64::from(old.port) && self.is_at(&old, &hello.primary_host) {
            return;
        }
        self.event_of(Level::Warning, "+config-update-from", sentinel, "");
        let text =
            format!("{} {} {} {} {}", hello.name, self.shown(&old), old.port, hello.primary_host, hello.primary_port);
        self.event_about(Level::Warning, "+switch-master", primary, text);
        self.change_address(primary, &hello.primary_host, hello.primary_port);
        let new = self.it(primary).addr.clone();
        self.tell_clients(primary, Part::Observer, &old, &new);
    }

    /// Makes the next hello to everybody around a primary due.
    pub(super) fn hurry_hello(&mut self, primary: Id) {
        let period_ms = self.periods.publish + 1;
        for id in std::iter::once(primary).chain(self.family(primary)) {
            let last = &mut self.it_mut(id).last_publish_ms;
            *last = (*last - period_ms).max(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_fields_and_nothing_else() {
        let hello = Hello::parse(b"10.0.0.1,26379,abc,7,mymaster,10.0.0.2,6379,5").expect("a hello");
        assert_eq!((hello.port, hello.epoch, hello.config_epoch, hello.name.as_str()), (26379, 7, 5, "mymaster"));
        assert_eq!(Hello::parse(b"10.0.0.1,26379,abc,7,mymaster,10.0.0.2,6379"), None);
        assert_eq!(Hello::parse(b"10.0.0.1,26379,abc,7,my,master,10.0.0.2,6379,5"), None);
    }
}
