//! CLUSTER and ASKING. Questions look at the machine; changes go through `Bus::change`, which has every shard locked.

use super::bus::{Bus, bus};
use super::machine::Change;
use super::machine::node::flag as node_flag;
use super::replies::{self, Shown};
use super::{describe, machine::Machine};
use crate::base::crc16::{SLOTS, key_slot};
use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::engine::keyspace::{Db, ShardSet, place, shard_of};
use crate::engine::table::Entry;
use crate::resp::Args;
use crate::server::clients::flag;
use crate::server::commands::help::help;
use crate::server::session::{Asking, SessionCommand, SessionContext, SessionFlow, SessionHandler};

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::container("cluster", CLUSTER)
        .group(Group::Cluster)
        .since("3.0.0")
        .summary("A container for commands on the cluster.")
        .complexity("Depends on the subcommand."),
    SessionCommand::new("asking", 1, asking)
        .group(Group::Cluster)
        .since("3.0.0")
        .fast()
        .categories(&["connection"])
        .summary("Announces that the next command follows an -ASK redirection.")
        .complexity("O(1)"),
];

/// What changes the cluster.
const fn change(name: &'static str, arity: i32, since: &'static str, handler: SessionHandler) -> SessionCommand {
    view(name, arity, since, handler).admin().flag(Flags::NO_ASYNC_LOADING)
}

/// What asks about it.
const fn view(name: &'static str, arity: i32, since: &'static str, handler: SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler).group(Group::Cluster).since(since).flag(Flags::STALE).complexity("O(1)")
}

const VARYING: &[&str] = &["nondeterministic_output"];

const CLUSTER: &[SessionCommand] = &[
    change("addslots", -3, "3.0.0", add_slots)
        .syntax("slot [slot ...]")
        .summary("Gives slots to this node.")
        .complexity("O(N) in the slots"),
    change("addslotsrange", -4, "7.0.0", add_slots_range)
        .syntax("start-slot end-slot [start-slot end-slot ...]")
        .summary("Gives ranges of slots to this node.")
        .complexity("O(N) in the slots"),
    change("bumpepoch", 2, "3.0.0", bump_epoch).tips(VARYING).summary("Moves the configuration epoch of this node on."),
    view("count-failure-reports", 3, "3.0.0", count_failure_reports)
        .admin()
        .tips(VARYING)
        .syntax("node-id")
        .summary("Counts the nodes that report a node as failing.")
        .complexity("O(N) in the reports"),
    view("countkeysinslot", 3, "3.0.0", count_keys_in_slot)
        .flag(Flags::SHARD_BY_SHARD)
        .syntax("slot")
        .summary("Counts the keys of a slot in this node."),
    change("delslots", -3, "3.0.0", delete_slots)
        .syntax("slot [slot ...]")
        .summary("Takes slots from this node.")
        .complexity("O(N) in the slots"),
    change("delslotsrange", -4, "7.0.0", delete_slots_range)
        .syntax("start-slot end-slot [start-slot end-slot ...]")
        .summary("Takes ranges of slots from this node.")
        .complexity("O(N) in the slots"),
    change("failover", -2, "3.0.0", failover)
        .syntax("[FORCE | TAKEOVER]")
        .summary("Lets this replica take its primary's place."),
    change("flushslots", 2, "3.0.0", flush_slots).summary("Takes every slot from this node."),
    change("forget", 3, "3.0.0", forget).syntax("node-id").summary("Strikes a node from this node's table."),
    view("getkeysinslot", 4, "3.0.0", get_keys_in_slot)
        .flag(Flags::SHARD_BY_SHARD)
        .tips(VARYING)
        .syntax("slot count")
        .summary("Names keys of a slot.")
        .complexity("O(N) in the count"),
    SessionCommand::new("help", 2, cluster_help)
        .group(Group::Cluster)
        .since("5.0.0")
        .loading_stale()
        .summary("Tells what the subcommands do.")
        .complexity("O(1)"),
    view("info", 2, "3.0.0", info).tips(VARYING).summary("Describes this node's state in the cluster."),
    view("keyslot", 3, "3.0.0", keyslot)
        .syntax("key")
        .summary("Tells the slot of a key.")
        .complexity("O(N) in the key's length"),
    view("links", 2, "7.0.0", links)
        .tips(VARYING)
        .summary("Lists the links of the bus.")
        .complexity("O(N) in the nodes"),
    change("meet", -4, "3.0.0", meet).syntax("ip port [cluster-bus-port]").summary("Makes this node know another one."),
    view("myid", 2, "3.0.0", myid).summary("Tells this node's name."),
    view("nodes", 2, "3.0.0", nodes)
        .tips(VARYING)
        .summary("Lists the nodes and their slots.")
        .complexity("O(N) in the nodes"),
    view("replicas", 3, "5.0.0", replicas)
        .admin()
        .tips(VARYING)
        .syntax("node-id")
        .summary("Lists the replicas of a primary.")
        .complexity("O(N) in the replicas"),
    change("replicate", 3, "3.0.0", replicate).syntax("node-id").summary("Makes this node a replica of another one."),
    view("reset", -2, "3.0.0", reset)
        .admin()
        .noscript()
        .syntax("[HARD | SOFT]")
        .summary("Makes this node forget the cluster.")
        .complexity("O(N) in the nodes"),
    change("saveconfig", 2, "3.0.0", save_config).summary("Writes the node's file of the cluster's state."),
    change("set-config-epoch", 3, "3.0.0", set_config_epoch)
        .syntax("config-epoch")
        .summary("Sets the epoch of a new node."),
    change("setslot", -4, "3.0.0", set_slot)
        .syntax("slot <IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>")
        .summary("Says what happens to a slot."),
    view("shards", 2, "7.0.0", shards)
        .tips(VARYING)
        .summary("Lists the shards: slots and their nodes.")
        .complexity("O(N) in the nodes"),
    view("slaves", 3, "3.0.0", replicas)
        .admin()
        .tips(VARYING)
        .syntax("node-id")
        .summary("The old name of CLUSTER REPLICAS.")
        .complexity("O(N) in the replicas"),
    view("slots", 2, "3.0.0", slots)
        .tips(VARYING)
        .summary("Lists slots and their nodes.")
        .complexity("O(N) in the nodes"),
];

type Outcome = Result<SessionFlow, CommandError>;

/// The node that this server is.
fn node() -> Result<&'static Bus, CommandError> {
    bus().ok_or(CommandError::fixed("ERR This instance has cluster support disabled"))
}

fn asking(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    node()?;
    ctx.session.asking = Asking::Said;
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn cluster_help(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    help(ctx, args)
}

/// Makes a change when no shard is locked any more, and answers OK.
fn make(ctx: &mut SessionContext<'_>, change: Change) -> Outcome {
    let bus = node()?;
    if ctx.session.in_script {
        return Err(CommandError::fixed("ERR This CLUSTER subcommand is not allowed from script"));
    }
    let flow = ctx.unlocked(move || bus.change(&change).map(drop))?;
    // The rest of this batch comes under the new role and map.
    if !ctx.session.in_exec {
        ctx.worker.refresh();
    }
    Ok(flow)
}

fn slot(text: &[u8]) -> Result<u16, CommandError> {
    let number = parse_i64(text).and_then(|slot| u16::try_from(slot).ok()).filter(|slot| *slot < SLOTS);
    number.ok_or(CommandError::fixed("ERR Invalid or out of range slot"))
}

fn single_slots(args: Args<'_>) -> Result<Vec<(u16, u16)>, CommandError> {
    args.from(2).iter().map(|text| slot(text).map(|slot| (slot, slot))).collect()
}

fn slot_ranges(ctx: &SessionContext<'_>, args: Args<'_>) -> Result<Vec<(u16, u16)>, CommandError> {
    node()?;
    if args.len() % 2 == 1 {
        return Err(CommandError::wrong_arity(&ctx.entry.full_name));
    }
    let mut ranges = Vec::new();
    for index in (2..args.len()).step_by(2) {
        let (first, last) = (slot(&args[index])?, slot(&args[index + 1])?);
        if first > last {
            return Err(CommandError::new(format!(
                "ERR start slot number {first} is greater than end slot number {last}"
            )));
        }
        ranges.push((first, last));
    }
    Ok(ranges)
}

fn add_slots(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    make(ctx, Change::AddSlots(single_slots(args)?))
}

fn delete_slots(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    make(ctx, Change::DeleteSlots(single_slots(args)?))
}

fn add_slots_range(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let ranges = slot_ranges(ctx, args)?;
    make(ctx, Change::AddSlots(ranges))
}

fn delete_slots_range(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let ranges = slot_ranges(ctx, args)?;
    make(ctx, Change::DeleteSlots(ranges))
}

fn flush_slots(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    make(ctx, Change::FlushSlots)
}

fn set_slot(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    if node()?.look(|machine| machine.me().is_replica()) {
        return Err(CommandError::fixed("ERR Please use SETSLOT only with masters."));
    }
    let slot = slot(&args[2])?;
    let name = || args[4].to_vec();
    let change = match args.len() {
        5 if args.is(3, "migrating") => Change::Migrating { slot, to: name() },
        5 if args.is(3, "importing") => Change::Importing { slot, from: name() },
        4 if args.is(3, "stable") => Change::Stable { slot },
        5 if args.is(3, "node") => Change::Assign { slot, to: name() },
        _ => {
            return Err(CommandError::fixed(
                "ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP",
            ));
        }
    };
    make(ctx, change)
}

fn bump_epoch(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    let bus = node()?;
    if ctx.locked.is_some() {
        return Err(CommandError::fixed("ERR CLUSTER BUMPEPOCH is not allowed inside a transaction or a script"));
    }
    let status = bus.change(&Change::BumpEpoch)?;
    ctx.reply.simple(&status);
    Ok(SessionFlow::Done)
}

fn set_config_epoch(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    let epoch = parse_i64(&args[2]).ok_or(error::NOT_AN_INTEGER)?;
    make(ctx, Change::SetEpoch(epoch))
}

fn save_config(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    let bus = node()?;
    ctx.unlocked(move || bus.try_save())
}

fn meet(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    if args.len() > 5 {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    let number = |index: usize, what: &str| {
        let text = &args[index];
        parse_i64(text).ok_or_else(|| {
            CommandError::new(format!("ERR Invalid TCP {what} port specified: {}", String::from_utf8_lossy(text)))
        })
    };
    let port = number(3, "base")?;
    let bus_port = if args.len() == 5 { number(4, "bus")? } else { port.saturating_add(10_000) };
    let ip = String::from_utf8_lossy(&args[2]).into_owned();
    make(ctx, Change::Meet { ip, port, bus_port })
}

fn forget(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    make(ctx, Change::Forget(args[2].to_vec()))
}

fn replicate(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    make(ctx, Change::Replicate(args[2].to_vec()))
}

fn failover(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    let (is_forced, takes_over) = match args.len() {
        2 => (false, false),
        3 if args.is(2, "force") => (true, false),
        3 if args.is(2, "takeover") => (true, true),
        3 => return Err(error::SYNTAX),
        _ => return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1])),
    };
    make(ctx, Change::Failover { is_forced, takes_over })
}

fn reset(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    let is_hard = match args.len() {
        2 => false,
        3 if args.is(2, "hard") => true,
        3 if args.is(2, "soft") => false,
        3 => return Err(error::SYNTAX),
        _ => return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1])),
    };
    make(ctx, Change::Reset { is_hard })
}

/// Looks at the machine and writes what is seen.
fn show(ctx: &mut SessionContext<'_>, write: impl FnOnce(&mut Machine, &Bus, &mut SessionContext<'_>)) -> Outcome {
    let bus = node()?;
    bus.look(|machine| write(machine, bus, ctx));
    Ok(SessionFlow::Done)
}

/// The cluster speaks TLS, but this client does not: it is told the other port.
fn wants_plain_ports(ctx: &SessionContext<'_>) -> bool {
    ctx.worker.config.tls_cluster && !ctx.session.client.has(flag::TLS)
}

fn info(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    show(ctx, |machine, _, ctx| ctx.reply.verbatim("txt", describe::info(machine).as_bytes()))
}

fn nodes(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    let plain_ports = wants_plain_ports(ctx);
    show(ctx, |machine, _, ctx| ctx.reply.verbatim("txt", describe::nodes(machine, 0, plain_ports).as_bytes()))
}

fn myid(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    show(ctx, |machine, _, ctx| ctx.reply.bulk(&machine.me().name.0))
}

fn slots(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    let plain_ports = wants_plain_ports(ctx);
    show(ctx, |machine, _, ctx| {
        replies::slots(machine, &Shown { config: &ctx.worker.config, plain_ports }, ctx.reply);
    })
}

fn shards(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    show(ctx, |machine, _, ctx| {
        replies::shards(machine, &Shown { config: &ctx.worker.config, plain_ports: false }, ctx.reply);
    })
}

fn links(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    show(ctx, |machine, bus, ctx| replies::links(bus, machine, ctx.reply))
}

fn unknown_node(name: &[u8]) -> CommandError {
    CommandError::new(format!("ERR Unknown node {}", String::from_utf8_lossy(name)))
}

fn replicas(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let plain_ports = wants_plain_ports(ctx);
    let lines = node()?.look(|machine| {
        let id = machine.find_text(&args[2]).ok_or_else(|| unknown_node(&args[2]))?;
        if machine.node(id).has(node_flag::REPLICA) {
            return Err(CommandError::fixed("ERR The specified node is not a master"));
        }
        let line = |id| describe::node_line(machine, id, machine.node(id), plain_ports);
        Ok(machine.replicas_of(id).map(line).collect::<Vec<_>>())
    })?;
    ctx.reply.array(lines.len());
    lines.iter().for_each(|line| ctx.reply.bulk(line.as_bytes()));
    Ok(SessionFlow::Done)
}

fn count_failure_reports(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let count = node()?.look(|machine| machine.find_text(&args[2]).map(|id| machine.reports(id)));
    ctx.reply.count(count.ok_or_else(|| unknown_node(&args[2]))?);
    Ok(SessionFlow::Done)
}

fn keyslot(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    ctx.reply.integer(i64::from(key_slot(&args[2])));
    Ok(SessionFlow::Done)
}

/// Works on the table of a slot; false if a busy script keeps it.
fn with_table(
    ctx: &mut SessionContext<'_>,
    slot: u16,
    work: impl FnOnce(Option<&Db>, &mut SessionContext<'_>),
) -> bool {
    let hash = place::hash_in(slot);
    if let Some(locked) = ctx.locked.take() {
        work(locked.db(hash, 0), ctx);
        ctx.locked = Some(locked);
        return true;
    }
    let Some(locked) = ctx.worker.server.lock(ShardSet::one(shard_of(hash))) else { return false };
    work(locked.db(hash, 0), ctx);
    true
}

fn count_keys_in_slot(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    let slot = parse_i64(&args[2]).ok_or(error::NOT_AN_INTEGER)?;
    let slot = u16::try_from(slot).ok().filter(|slot| *slot < SLOTS);
    let slot = slot.ok_or(CommandError::fixed("ERR Invalid slot"))?;
    let is_done = with_table(ctx, slot, |table, ctx| ctx.reply.count(table.map_or(0, Db::len)));
    Ok(if is_done { SessionFlow::Done } else { SessionFlow::Again })
}

fn get_keys_in_slot(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    node()?;
    let slot = parse_i64(&args[2]).ok_or(error::NOT_AN_INTEGER)?;
    let wanted = parse_i64(&args[3]).ok_or(error::NOT_AN_INTEGER)?;
    let slot = u16::try_from(slot).ok().filter(|slot| *slot < SLOTS).zip(usize::try_from(wanted).ok());
    let (slot, wanted) = slot.ok_or(CommandError::fixed("ERR Invalid slot or number of keys"))?;
    let is_done = with_table(ctx, slot, |table, ctx| {
        let count = table.map_or(0, Db::len).min(wanted);
        ctx.reply.array(count);
        let records = table.into_iter().flat_map(|table| table.table().iter());
        records.take(count).for_each(|record| ctx.reply.bulk(record.key()));
    });
    Ok(if is_done { SessionFlow::Done } else { SessionFlow::Again })
}
