//! SUBSCRIBE, PUBLISH and their kin; PUBSUB, which looks at the registry.

use super::help::help;
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::commands::keyspec::KeySpec;
use crate::commands::spec::{Channels, Group};
use crate::engine::keyspace::{Locked, place};
use crate::resp::{Args, OwnedArgs, Reply};
use crate::server::pubsub::Kind;
use crate::server::session::{ReplyMode, SessionCommand, SessionContext, SessionFlow, SessionHandler};

const fn command(name: &'static str, arity: i32, handler: SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler).group(Group::PubSub).flag(Flags::PUBSUB).loading_stale()
}

pub const COMMANDS: &[SessionCommand] = &[
    command("subscribe", -2, subscribe)
        .channels(Channels::Subscribe)
        .since("2.0.0")
        .noscript()
        .flag(Flags::SENTINEL)
        .syntax("channel [channel ...]")
        .summary("Listens to channels.")
        .complexity("O(N) where N is the number of channels to subscribe to."),
    command("psubscribe", -2, psubscribe)
        .channels(Channels::SubscribePatterns)
        .since("2.0.0")
        .noscript()
        .flag(Flags::SENTINEL)
        .syntax("pattern [pattern ...]")
        .summary("Listens to every channel whose name matches a pattern.")
        .complexity("O(N) where N is the number of patterns to subscribe to."),
    command("ssubscribe", -2, ssubscribe)
        .channels(Channels::Subscribe)
        .since("7.0.0")
        .noscript()
        .keys(&[KeySpec::range(1, -1, 1).not_key()])
        .syntax("shardchannel [shardchannel ...]")
        .summary("Listens to shard channels.")
        .complexity("O(N) where N is the number of shard channels to subscribe to."),
    command("unsubscribe", -1, unsubscribe)
        .since("2.0.0")
        .noscript()
        .flag(Flags::SENTINEL)
        .syntax("[channel [channel ...]]")
        .summary("Stops listening to channels, or to all of them.")
        .complexity("O(N) where N is the number of channels to unsubscribe."),
    command("punsubscribe", -1, punsubscribe)
        .since("2.0.0")
        .noscript()
        .flag(Flags::SENTINEL)
        .syntax("[pattern [pattern ...]]")
        .summary("Stops listening to patterns, or to all of them.")
        .complexity("O(N) where N is the number of patterns to unsubscribe."),
    command("sunsubscribe", -1, sunsubscribe)
        .since("7.0.0")
        .noscript()
        .keys(&[KeySpec::range(1, -1, 1).not_key()])
        .syntax("[shardchannel [shardchannel ...]]")
        .summary("Stops listening to shard channels, or to all of them.")
        .complexity("O(N) where N is the number of shard channels to unsubscribe."),
    command("publish", 3, publish)
        .channels(Channels::Publish)
        .since("2.0.0")
        .fast()
        .flag(Flags::MAY_REPLICATE)
        .flag(Flags::SENTINEL)
        .syntax("channel message")
        .summary("Sends a message to all who listen to a channel.")
        .complexity(
            "O(N+M) where N is the number of clients subscribed to the receiving channel and M is the total number of \
             subscribed patterns (by any client).",
        ),
    command("spublish", 3, spublish)
        .channels(Channels::Publish)
        .since("7.0.0")
        .fast()
        .flag(Flags::MAY_REPLICATE)
        .keys(&[KeySpec::at(1).not_key()])
        .syntax("shardchannel message")
        .summary("Sends a message to all who listen to a shard channel.")
        .complexity("O(N) where N is the number of clients subscribed to the receiving shard channel."),
    SessionCommand::container("pubsub", SUBCOMMANDS)
        .group(Group::PubSub)
        .categories(&["-pubsub"])
        .since("2.8.0")
        .summary("A container for commands on channels.")
        .complexity("Depends on subcommand."),
];

const SUBCOMMANDS: &[SessionCommand] = &[
    command("channels", -2, channels)
        .since("2.8.0")
        .syntax("[pattern]")
        .summary("Lists the channels that somebody listens to.")
        .complexity(
            "O(N) where N is the number of active channels, and assuming constant time pattern matching (relatively \
             short channels and patterns)",
        ),
    SessionCommand::new("help", 2, help)
        .group(Group::PubSub)
        .categories(&["-pubsub"])
        .since("6.2.0")
        .loading_stale()
        .summary("Explains the subcommands.")
        .complexity("O(1)"),
    command("numpat", 2, numpat)
        .since("2.8.0")
        .summary("Counts the patterns that somebody listens to.")
        .complexity("O(1)"),
    command("numsub", -2, numsub)
        .since("2.8.0")
        .syntax("[channel [channel ...]]")
        .summary("Counts the listeners of channels.")
        .complexity("O(N) for the NUMSUB subcommand, where N is the number of requested channels"),
    command("shardchannels", -2, shardchannels)
        .since("7.0.0")
        .syntax("[pattern]")
        .summary("Lists the shard channels that somebody listens to.")
        .complexity(
            "O(N) where N is the number of active shard channels, and assuming constant time pattern matching \
             (relatively short shard channels).",
        ),
    command("shardnumsub", -2, shardnumsub)
        .since("7.0.0")
        .syntax("[shardchannel [shardchannel ...]]")
        .summary("Counts the listeners of shard channels.")
        .complexity("O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard channels"),
];

type Outcome = Result<SessionFlow, CommandError>;

fn subscribe(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    listen(ctx, args, Kind::Channel, "subscribe")
}

fn psubscribe(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    listen(ctx, args, Kind::Pattern, "psubscribe")
}

fn ssubscribe(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    if ctx.deny_blocking {
        return Err(CommandError::fixed("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client"));
    }
    let flow = listen(ctx, args, Kind::ShardChannel, "ssubscribe")?;
    if ctx.worker.config.cluster_enabled && ctx.worker.is_outdated() {
        // The slot may have been lost since this was admitted; whoever took it away did not see this listener yet.
        let map = ctx.worker.server.slots.map();
        let is_lost = |channel: &[u8]| !map.may_hold(place::slot_of(Locked::hash(channel)));
        ctx.worker.server.leave_shard_channels(is_lost);
    }
    Ok(flow)
}

fn listen(ctx: &mut SessionContext<'_>, args: Args<'_>, kind: Kind, verb: &str) -> Outcome {
    ctx.session.replied_by_push = ctx.session.reply_mode != ReplyMode::On;
    for name in args.from(1).iter() {
        ctx.session.subscribe(ctx.worker.server, kind, name);
        confirm(ctx.reply, verb, Some(name), ctx.session.subscriptions.count(kind));
    }
    // The user may have lost a channel since this was admitted; whoever took it away did not see this listener yet.
    let generation = ctx.worker.server.acl.generation();
    if generation != ctx.worker.acl_generation {
        ctx.session.renew_user(ctx.worker.server, generation);
        let user = ctx.session.identity.user();
        let is_allowed = |name| user.is_none_or(|user| user.allows_channel(name, kind == Kind::Pattern));
        if !args.from(1).iter().all(is_allowed) {
            return Ok(SessionFlow::Close);
        }
    }
    Ok(SessionFlow::Done)
}

fn unsubscribe(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    leave(ctx, args, Kind::Channel, "unsubscribe")
}

fn punsubscribe(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    leave(ctx, args, Kind::Pattern, "punsubscribe")
}

fn sunsubscribe(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    leave(ctx, args, Kind::ShardChannel, "sunsubscribe")
}

fn leave(ctx: &mut SessionContext<'_>, args: Args<'_>, kind: Kind, verb: &str) -> Outcome {
    ctx.session.replied_by_push = ctx.session.reply_mode != ReplyMode::On;
    let names: Vec<Box<[u8]>> = if args.len() > 1 {
        args.from(1).iter().map(Box::from).collect()
    } else {
        ctx.session.subscriptions.names(kind).iter().cloned().collect()
    };
    if names.is_empty() {
        confirm(ctx.reply, verb, None, ctx.session.subscriptions.count(kind));
    }
    for name in &names {
        ctx.session.unsubscribe(ctx.worker.server, kind, name);
        confirm(ctx.reply, verb, Some(name), ctx.session.subscriptions.count(kind));
    }
    Ok(SessionFlow::Done)
}

fn confirm(reply: &mut Reply, verb: &str, name: Option<&[u8]>, count: usize) {
    reply.push(3);
    reply.bulk(verb.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.count(count);
}

fn publish(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let receivers = ctx.worker.server.publish(&args[1], &args[2]);
    finish_publish(ctx, args, receivers, false)
}

fn spublish(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let receivers = ctx.worker.server.publish_shard(&args[1], &args[2]);
    finish_publish(ctx, args, receivers, true)
}

/// The clients of replicas hear the message as well: it goes down the stream. In a cluster all nodes do, or those of the shard: it
/// goes over the bus.
fn finish_publish(ctx: &mut SessionContext<'_>, args: Args<'_>, receivers: usize, is_sharded: bool) -> Outcome {
    if ctx.worker.config.cluster_enabled {
        if !ctx.session.is_primary_link {
            ctx.worker.server.slots.publish(&args[1], &args[2], is_sharded);
        }
    } else if ctx.worker.server.journal.is_active() && !ctx.session.is_primary_link {
        ctx.worker.unit.push((ctx.session.db, OwnedArgs::new(args.iter())));
    }
    ctx.reply.count(receivers);
    Ok(SessionFlow::Done)
}

fn channels(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    list(ctx, args, Kind::Channel)
}

fn shardchannels(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    list(ctx, args, Kind::ShardChannel)
}

fn list(ctx: &mut SessionContext<'_>, args: Args<'_>, kind: Kind) -> Outcome {
    if args.len() > 3 {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    let names = ctx.worker.server.pubsub.names(kind, args.get(2));
    ctx.reply.array(names.len());
    names.iter().for_each(|name| ctx.reply.bulk(name));
    Ok(SessionFlow::Done)
}

fn numpat(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    ctx.reply.count(ctx.worker.server.pubsub.count(Kind::Pattern));
    Ok(SessionFlow::Done)
}

fn numsub(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    count(ctx, args, Kind::Channel)
}

fn shardnumsub(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    count(ctx, args, Kind::ShardChannel)
}

fn count(ctx: &mut SessionContext<'_>, args: Args<'_>, kind: Kind) -> Outcome {
    let names = args.from(2);
    ctx.reply.array(names.len() * 2);
    for name in names.iter() {
        ctx.reply.bulk(name);
        ctx.reply.count(ctx.worker.server.pubsub.listeners(kind, name));
    }
    Ok(SessionFlow::Done)
}
