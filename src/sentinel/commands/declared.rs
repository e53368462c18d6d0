//! The declarations.

use super::change;
use super::show;
use crate::commands::flags::Flags;
use crate::commands::spec::{Channels, Group};
use crate::server::commands::help::help_of;
use crate::server::session::{SessionCommand, SessionHandler};

const ONLY_HERE: Flags = Flags::SENTINEL.with(Flags::ONLY_SENTINEL);

pub const COMMANDS: &[SessionCommand] = &[
    SessionCommand::container("sentinel", SUBCOMMANDS)
        .group(Group::Sentinel)
        .since("2.8.4")
        .admin()
        .flag(ONLY_HERE)
        .summary("A container for commands of Sentinel.")
        .complexity("Depends on subcommand."),
    SessionCommand::new("info", -1, show::info)
        .group(Group::Server)
        .loading_stale()
        .flag(Flags::SENTINEL)
        .flag(Flags::ALL_SHARDS)
        .categories(&["dangerous"])
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .syntax("[section [section ...]]")
        .summary("Tells the state of this Sentinel.")
        .complexity("O(1)"),
    SessionCommand::new("role", 1, show::role)
        .group(Group::Server)
        .since("2.8.12")
        .noscript()
        .fast()
        .loading_stale()
        .flag(Flags::SENTINEL)
        .categories(&["admin", "dangerous"])
        .summary("Tells that this is a Sentinel, and whom it watches.")
        .complexity("O(1)"),
    SessionCommand::new("publish", 3, change::publish)
        .group(Group::PubSub)
        .channels(Channels::Publish)
        .since("2.0.0")
        .flag(Flags::PUBSUB)
        .loading_stale()
        .fast()
        .flag(Flags::MAY_REPLICATE)
        .flag(Flags::SENTINEL)
        .syntax("channel message")
        .summary("Takes the hello of another Sentinel.")
        .complexity("O(1)"),
];

const fn sub(name: &'static str, arity: i32, handler: SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler)
        .group(Group::Sentinel)
        .since("2.8.4")
        .admin()
        .flag(ONLY_HERE)
        .complexity("O(1)")
}

const SUBCOMMANDS: &[SessionCommand] = &[
    sub("ckquorum", 3, show::ckquorum)
        .syntax("master-name")
        .summary("Tells whether enough Sentinels can be reached to fail a primary over."),
    sub("config", -3, change::config)
        .since("6.2.0")
        .syntax("<SET parameter value | GET parameter>")
        .summary("Shows or changes the settings of this Sentinel itself."),
    sub("debug", -2, change::debug)
        .since("7.0.0")
        .syntax("[parameter value [parameter value ...]]")
        .summary("Shows or changes the times of this Sentinel, in milliseconds.")
        .complexity("O(N) where N is the number of configurable parameters"),
    sub("failover", 3, change::failover).syntax("master-name").summary("Fails a primary over without asking anybody."),
    sub("flushconfig", 2, change::flushconfig).summary("Writes the configuration file anew, state included."),
    sub("get-master-addr-by-name", 3, show::get_master_addr_by_name)
        .syntax("master-name")
        .summary("Tells where a primary is."),
    help_of(Group::Sentinel, "6.2.0").flag(ONLY_HERE),
    sub("info-cache", -3, show::info_cache)
        .since("3.2.0")
        .syntax("master-name [master-name ...]")
        .summary("Shows the last INFO of primaries and their replicas.")
        .complexity("O(N) where N is the number of instances"),
    sub("is-master-down-by-addr", 6, change::is_master_down_by_addr)
        .syntax("ip port current-epoch runid")
        .summary("Tells another Sentinel whether a primary is down from here, and votes."),
    sub("master", 3, show::master).syntax("master-name").summary("Shows what is known of a primary."),
    sub("masters", 2, show::masters)
        .summary("Shows what is known of every primary.")
        .complexity("O(N) where N is the number of masters"),
    sub("monitor", 6, change::monitor).syntax("name ip port quorum").summary("Begins to watch a primary."),
    sub("myid", 2, show::myid).since("6.2.0").summary("Tells the id of this Sentinel."),
    sub("pending-scripts", 2, show::pending_scripts).summary("Shows the scripts that run or wait."),
    sub("remove", 3, change::remove).syntax("master-name").summary("Watches a primary no more."),
    sub("replicas", 3, show::replicas)
        .since("5.0.0")
        .syntax("master-name")
        .summary("Shows what is known of a primary's replicas.")
        .complexity("O(N) where N is the number of replicas"),
    sub("reset", 3, change::reset)
        .syntax("pattern")
        .summary("Forgets replicas, Sentinels and failovers of the primaries whose names match.")
        .complexity("O(N) where N is the number of monitored masters"),
    sub("sentinels", 3, show::sentinels)
        .syntax("master-name")
        .summary("Shows what is known of the other Sentinels of a primary.")
        .complexity("O(N) where N is the number of Sentinels"),
    sub("set", -5, change::set)
        .syntax("master-name option value [option value ...]")
        .summary("Changes the settings of a primary."),
    sub("simulate-failure", -3, change::simulate_failure)
        .since("3.2.0")
        .syntax("[CRASH-AFTER-ELECTION] [CRASH-AFTER-PROMOTION] [HELP]")
        .summary("Makes this Sentinel end at a certain point of the next failover."),
    sub("slaves", 3, show::replicas)
        .since("2.8.0")
        .syntax("master-name")
        .summary("The old name of SENTINEL REPLICAS.")
        .complexity("O(N) where N is the number of replicas"),
];
