//! CLUSTER and ASKING of a server that is no node of a cluster: every one is declared, and answers what Redis answers then.
//!
//! `cluster-enabled yes` is refused at the start as long as there is no cluster mode, so this is the only answer there is.

use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::container("cluster", CLUSTER)
        .group(Group::Cluster)
        .since("3.0.0")
        .summary("A container for commands on the cluster.")
        .complexity("Depends on the subcommand."),
    SessionCommand::new("asking", 1, disabled)
        .group(Group::Cluster)
        .since("3.0.0")
        .fast()
        .categories(&["connection"])
        .summary("Announces that the next command follows an -ASK redirection.")
        .complexity("O(1)"),
];

/// What changes the cluster.
const fn change(name: &'static str, arity: i32, since: &'static str) -> SessionCommand {
    view(name, arity, since).admin().flag(Flags::NO_ASYNC_LOADING)
}

/// What asks about it.
const fn view(name: &'static str, arity: i32, since: &'static str) -> SessionCommand {
    SessionCommand::new(name, arity, disabled).group(Group::Cluster).since(since).flag(Flags::STALE).complexity("O(1)")
}

const VARYING: &[&str] = &["nondeterministic_output"];

const CLUSTER: &[SessionCommand] = &[
    change("addslots", -3, "3.0.0")
        .syntax("slot [slot ...]")
        .summary("Gives slots to this node.")
        .complexity("O(N) in the slots"),
    change("addslotsrange", -4, "7.0.0")
        .syntax("start-slot end-slot [start-slot end-slot ...]")
        .summary("Gives ranges of slots to this node.")
        .complexity("O(N) in the slots"),
    change("bumpepoch", 2, "3.0.0").tips(VARYING).summary("Moves the configuration epoch of this node on."),
    view("count-failure-reports", 3, "3.0.0")
        .admin()
        .tips(VARYING)
        .syntax("node-id")
        .summary("Counts the nodes that report a node as failing.")
        .complexity("O(N) in the reports"),
    view("countkeysinslot", 3, "3.0.0").syntax("slot").summary("Counts the keys of a slot in this node."),
    change("delslots", -3, "3.0.0")
        .syntax("slot [slot ...]")
        .summary("Takes slots from this node.")
        .complexity("O(N) in the slots"),
    change("delslotsrange", -4, "7.0.0")
        .syntax("start-slot end-slot [start-slot end-slot ...]")
        .summary("Takes ranges of slots from this node.")
        .complexity("O(N) in the slots"),
    change("failover", -2, "3.0.0").syntax("[FORCE | TAKEOVER]").summary("Lets this replica take its primary's place."),
    change("flushslots", 2, "3.0.0").summary("Takes every slot from this node."),
    change("forget", 3, "3.0.0").syntax("node-id").summary("Strikes a node from this node's table."),
    view("getkeysinslot", 4, "3.0.0")
        .tips(VARYING)
        .syntax("slot count")
        .summary("Names keys of a slot.")
        .complexity("O(N) in the count"),
    SessionCommand::new("help", 2, disabled)
        .group(Group::Cluster)
        .since("5.0.0")
        .loading_stale()
        .summary("Tells what the subcommands do.")
        .complexity("O(1)"),
    view("info", 2, "3.0.0").tips(VARYING).summary("Describes this node's state in the cluster."),
    view("keyslot", 3, "3.0.0")
        .syntax("key")
        .summary("Tells the slot of a key.")
        .complexity("O(N) in the key's length"),
    view("links", 2, "7.0.0").tips(VARYING).summary("Lists the links of the bus.").complexity("O(N) in the nodes"),
    change("meet", -4, "3.0.0").syntax("ip port [cluster-bus-port]").summary("Makes this node know another one."),
    view("myid", 2, "3.0.0").summary("Tells this node's name."),
    view("nodes", 2, "3.0.0").tips(VARYING).summary("Lists the nodes and their slots.").complexity("O(N) in the nodes"),
    view("replicas", 3, "5.0.0")
        .admin()
        .tips(VARYING)
        .syntax("node-id")
        .summary("Lists the replicas of a primary.")
        .complexity("O(N) in the replicas"),
    change("replicate", 3, "3.0.0").syntax("node-id").summary("Makes this node a replica of another one."),
    view("reset", -2, "3.0.0")
        .admin()
        .noscript()
        .syntax("[HARD | SOFT]")
        .summary("Makes this node forget the cluster.")
        .complexity("O(N) in the nodes"),
    change("saveconfig", 2, "3.0.0").summary("Writes the node's file of the cluster's state."),
    change("set-config-epoch", 3, "3.0.0").syntax("config-epoch").summary("Sets the epoch of a new node."),
    change("setslot", -4, "3.0.0")
        .syntax("slot <IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE>")
        .summary("Says what happens to a slot."),
    view("shards", 2, "7.0.0")
        .tips(VARYING)
        .summary("Lists the shards: slots and their nodes.")
        .complexity("O(N) in the nodes"),
    view("slaves", 3, "3.0.0")
        .admin()
        .tips(VARYING)
        .syntax("node-id")
        .summary("The old name of CLUSTER REPLICAS.")
        .complexity("O(N) in the replicas"),
    view("slots", 2, "3.0.0").tips(VARYING).summary("Lists slots and their nodes.").complexity("O(N) in the nodes"),
];

fn disabled(_: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    Err(CommandError::fixed("ERR This instance has cluster support disabled"))
}
