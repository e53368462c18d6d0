//! Whether this node serves a command, by the slots of its keys (redis.io, "Redis cluster specification", redirection).
//!
//! Asked when a request comes, and while keys of the slot are on the move once more under the command's locks: only there it is
//! certain which keys are (still) here.

use super::{Map, NodeIndex};
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::engine::keyspace::{Locked, ShardSet, place, shard_of};
use crate::resp::Args;
use crate::server::clients::{Client, flag};
use crate::server::config::{ClusterPreferredEndpointType, Config};
use crate::server::session::{Asking, Session};
use crate::server::state::Server;
use crate::server::table::Entry;
use crate::server::worker::Worker;
use crate::server::{dispatch, plan};

const CROSS_SLOT: CommandError = CommandError::fixed("CROSSSLOT Keys in request don't hash to the same slot");
const UNSTABLE: CommandError = CommandError::fixed("TRYAGAIN Multiple keys request during rehashing of slot");
const DOWN: CommandError = CommandError::fixed("CLUSTERDOWN The cluster is down");
const DOWN_FOR_WRITES: CommandError =
    CommandError::fixed("CLUSTERDOWN The cluster is down and only accepts read commands");
const UNBOUND: CommandError = CommandError::fixed("CLUSTERDOWN Hash slot not served");

/// Whether an error sends the client elsewhere (or to nobody): it ends a transaction without more ado.
pub fn is_redirection(error: &CommandError) -> bool {
    matches!(error.code(), "MOVED" | "ASK" | "CROSSSLOT" | "TRYAGAIN" | "CLUSTERDOWN")
}

/// Why a command is not served here; scripts are told in words of their own.
enum Elsewhere {
    CrossSlot,
    Unstable,
    Down,
    DownForWrites,
    Unbound,
    Ask(u16, NodeIndex),
    Moved(u16, NodeIndex),
}

/// Admits a request of a client. `hash` is that of its single key, if it is known.
#[inline]
pub fn admit(
    worker: &Worker,
    session: &Session,
    entry: &Entry,
    args: Args<'_>,
    hash: Option<u64>,
) -> Result<(), CommandError> {
    if let (Some(hash), Some(_)) = (hash, entry.single_key)
        && worker.server.slots.is_plain(place::slot_of(hash))
    {
        return Ok(());
    }
    if entry.spec.keys.is_empty() && entry.spec.key_finder.is_none() && entry.full_name != "exec" {
        return Ok(());
    }
    judge(worker, session, entry, args, None)
}

/// The same under the locks of the command. Needed only while slots are open.
pub fn judge(
    worker: &Worker,
    session: &Session,
    entry: &Entry,
    args: Args<'_>,
    locked: Option<&Locked>,
) -> Result<(), CommandError> {
    let map = worker.server.slots.map();
    look(worker, session, entry, args, locked, &map)
        .map_err(|elsewhere| elsewhere.error(&map, worker.config.as_ref(), &session.client))
}

/// What the commands of a request have in common.
#[derive(Default)]
struct Seen {
    slot: Option<u16>,
    first: Vec<u8>,
    has_several: bool,
    crosses: bool,
    missing: usize,
    existing: usize,
}

fn look(
    worker: &Worker,
    session: &Session,
    entry: &Entry,
    args: Args<'_>,
    locked: Option<&Locked>,
    map: &Map,
) -> Result<(), Elsewhere> {
    let is_channel = entry.parent.is_none() && matches!(entry.spec.name, "ssubscribe" | "sunsubscribe" | "spublish");
    let mut seen = Seen::default();
    let mut note = |entry: &Entry, args: Args<'_>| {
        plan::visit_keys(entry, args, &mut |index, _| {
            if let Some(key) = args.get(index) {
                seen.note(worker.server, map, key, is_channel, locked);
            }
        });
    };
    let mut writes = dispatch::would_write(worker, entry, args);
    if entry.full_name == "exec" {
        for (entry, args) in session.transaction.iter().flat_map(|transaction| &transaction.queue) {
            note(entry, args.as_args());
            writes |= entry.writes;
        }
    } else {
        note(entry, args);
    }
    let Some(slot) = seen.slot else { return Ok(()) };
    let owner = map.owner(slot).ok_or(Elsewhere::Unbound)?;
    if seen.crosses {
        return Err(Elsewhere::CrossSlot);
    }
    if !map.is_ok {
        may_run_when_down(&worker.config, is_channel, writes)?;
    }
    let is_migrating = owner == map.myself && map.migrating.contains_key(&slot);
    let is_importing = !is_migrating && map.importing.contains_key(&slot);
    // It moves the keys.
    if (is_migrating || is_importing) && entry.full_name == "migrate" {
        return Ok(());
    }
    if is_migrating && seen.missing > 0 {
        return match map.migrating.get(&slot) {
            Some(to) if seen.existing == 0 => Err(Elsewhere::Ask(slot, *to)),
            _ => Err(Elsewhere::Unstable),
        };
    }
    if is_importing && (session.asking != Asking::No || entry.spec.flags.has(Flags::ASKING)) {
        return if seen.has_several && seen.missing > 0 { Err(Elsewhere::Unstable) } else { Ok(()) };
    }
    let reads_copy = session.client.has(flag::READONLY) || is_channel;
    if owner == map.myself || (reads_copy && !writes && map.primary == Some(owner)) {
        return Ok(());
    }
    Err(Elsewhere::Moved(slot, owner))
}

fn may_run_when_down(config: &Config, is_channel: bool, writes: bool) -> Result<(), Elsewhere> {
    if is_channel {
        return if config.cluster_allow_pubsubshard_when_down { Ok(()) } else { Err(Elsewhere::Down) };
    }
    match config.cluster_allow_reads_when_down {
        false => Err(Elsewhere::Down),
        true if writes => Err(Elsewhere::DownForWrites),
        true => Ok(()),
    }
}

impl Seen {
    fn note(&mut self, server: &'static Server, map: &Map, key: &[u8], is_channel: bool, locked: Option<&Locked>) {
        let hash = Locked::hash(key);
        let slot = place::slot_of(hash);
        match self.slot {
            None => {
                self.slot = Some(slot);
                self.first = key.to_vec();
            }
            Some(first) if first != slot => {
                self.crosses = true;
                return;
            }
            Some(_) => self.has_several |= self.first != key,
        }
        if map.is_open(slot) && !is_channel {
            match is_here(server, hash, key, locked) {
                true => self.existing += 1,
                false => self.missing += 1,
            }
        }
    }
}

fn is_here(server: &'static Server, hash: u64, key: &[u8], locked: Option<&Locked>) -> bool {
    let find = |locked: &Locked| {
        let found = locked.db(hash, 0).and_then(|part| part.find(hash, key));
        found.is_some_and(|record| record.expiry().is_none_or(|at| at > crate::base::clock::unix_ms()))
    };
    match locked {
        Some(locked) if locked.set().contains(shard_of(hash)) => find(locked),
        Some(_) => false,
        // What a busy script keeps is answered -BUSY in a moment.
        None => server.lock(ShardSet::one(shard_of(hash))).is_none_or(|locked| find(&locked)),
    }
}

impl Elsewhere {
    fn error(self, map: &Map, config: &Config, client: &Client) -> CommandError {
        match self {
            Elsewhere::CrossSlot => CROSS_SLOT,
            Elsewhere::Unstable => UNSTABLE,
            Elsewhere::Down => DOWN,
            Elsewhere::DownForWrites => DOWN_FOR_WRITES,
            Elsewhere::Unbound => UNBOUND,
            Elsewhere::Ask(slot, to) => redirection("ASK", slot, to, map, config, client),
            Elsewhere::Moved(slot, to) => redirection("MOVED", slot, to, map, config, client),
        }
    }
}

fn redirection(word: &str, slot: u16, to: NodeIndex, map: &Map, config: &Config, client: &Client) -> CommandError {
    let place = &map.nodes[usize::from(to)];
    let host = match config.cluster_preferred_endpoint_type {
        ClusterPreferredEndpointType::Ip => &place.ip,
        ClusterPreferredEndpointType::Hostname if place.hostname.is_empty() => "?",
        ClusterPreferredEndpointType::Hostname => &place.hostname,
        ClusterPreferredEndpointType::UnknownEndpoint => "",
    };
    let is_plain = config.tls_cluster && !client.has(flag::TLS) && place.plain_port != 0;
    let port = if is_plain { place.plain_port } else { place.port };
    CommandError::new(format!("{word} {slot} {host}:{port}"))
}

/// A command that a script calls. `slot` is that of the keys which it has used so far.
pub fn admit_in_script(
    worker: &Worker,
    session: &Session,
    locked: &Locked,
    entry: &Entry,
    args: Args<'_>,
    slot: &mut Option<u16>,
    may_cross: bool,
) -> Result<(), CommandError> {
    if entry.spec.keys.is_empty() && entry.spec.key_finder.is_none() {
        return Ok(());
    }
    let map = worker.server.slots.map();
    look(worker, session, entry, args, Some(locked), &map).map_err(|elsewhere| {
        CommandError::fixed(match elsewhere {
            Elsewhere::DownForWrites => {
                "ERR Script attempted to execute a write command while the cluster is down and readonly"
            }
            Elsewhere::Down => "ERR Script attempted to execute a command while the cluster is down",
            _ => "ERR Script attempted to access a non local key in a cluster node",
        })
    })?;
    let mut crosses = false;
    plan::visit_keys(entry, args, &mut |index, _| {
        if let Some(key) = args.get(index) {
            let key_slot = place::slot_of(Locked::hash(key));
            crosses |= *slot.get_or_insert(key_slot) != key_slot;
        }
    });
    match crosses && !may_cross {
        true => Err(CommandError::fixed("ERR Script attempted to access keys that do not hash to the same slot")),
        false => Ok(()),
    }
}

/// What a blocked client is told when its keys have gone elsewhere; nothing if it may wait on.
pub fn redirect_blocked(
    map: &Map,
    config: &Config,
    client: &Client,
    entry: &Entry,
    key: &[u8],
) -> Option<CommandError> {
    if !map.is_ok {
        return Some(DOWN);
    }
    let slot = place::slot_of(Locked::hash(key));
    let Some(owner) = map.owner(slot) else {
        return (!map.importing.contains_key(&slot)).then_some(UNBOUND);
    };
    let reads_copy = client.has(flag::READONLY) && !entry.writes && map.primary == Some(owner);
    if owner == map.myself || reads_copy || map.importing.contains_key(&slot) {
        return None;
    }
    Some(redirection("MOVED", slot, owner, map, config, client))
}
