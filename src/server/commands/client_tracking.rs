//! CLIENT TRACKING, CACHING, GETREDIR, TRACKINGINFO: client-side caching as seen by the connection.

use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError};
use crate::resp::Args;
use crate::server::clients::flag;
use crate::server::session::{SessionContext, SessionFlow};
use crate::server::tracking::TrackingOptions;

pub fn tracking(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let (options, prefixes) = parse(ctx, args)?;
    if args.is(2, "OFF") {
        ctx.session.stop_tracking(ctx.worker.server);
    } else if args.is(2, "ON") {
        check(ctx, &options, &prefixes)?;
        ctx.session.start_tracking(ctx.worker.server, options, &prefixes);
    } else {
        return Err(error::SYNTAX);
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn parse<'a>(ctx: &SessionContext<'_>, args: Args<'a>) -> Result<(TrackingOptions, Vec<&'a [u8]>), CommandError> {
    let mut options = TrackingOptions::default();
    let mut prefixes = Vec::new();
    let mut at = 3;
    while at < args.len() {
        if args.is(at, "REDIRECT") && at + 1 < args.len() {
            at += 1;
            if options.redirect != 0 {
                return Err(CommandError::fixed("ERR A client can only redirect to a single other client"));
            }
            let id = args.get(at).and_then(parse_i64).ok_or(error::NOT_AN_INTEGER)?;
            let found = u64::try_from(id).ok().and_then(|id| ctx.worker.server.clients.find(id));
            if found.is_none() {
                return Err(CommandError::fixed("ERR The client ID you want redirect to does not exist"));
            }
            options.redirect = id;
        } else if args.is(at, "BCAST") {
            options.bcast = true;
        } else if args.is(at, "OPTIN") {
            options.optin = true;
        } else if args.is(at, "OPTOUT") {
            options.optout = true;
        } else if args.is(at, "NOLOOP") {
            options.noloop = true;
        } else if args.is(at, "PREFIX") && at + 1 < args.len() {
            at += 1;
            prefixes.extend(args.get(at));
        } else {
            return Err(error::SYNTAX);
        }
        at += 1;
    }
    Ok((options, prefixes))
}

/// Whether the options agree with each other and with what is on already.
fn check(ctx: &SessionContext<'_>, options: &TrackingOptions, prefixes: &[&[u8]]) -> Result<(), CommandError> {
    let current = &ctx.session.tracking;
    let refuse = |text| Err(CommandError::fixed(text));
    if !options.bcast && !prefixes.is_empty() {
        return refuse("ERR PREFIX option requires BCAST mode to be enabled");
    }
    if current.on && current.options.bcast != options.bcast {
        return refuse(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        );
    }
    if options.bcast && (options.optin || options.optout) {
        return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
    }
    if options.optin && options.optout {
        return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
    }
    if (options.optin && current.options.optout) || (options.optout && current.options.optin) {
        return refuse(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it \
             with a different mode.",
        );
    }
    check_overlaps(&current.prefixes, prefixes)
}

fn check_overlaps(existing: &[Box<[u8]>], prefixes: &[&[u8]]) -> Result<(), CommandError> {
    let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
    for (index, prefix) in prefixes.iter().enumerate() {
        let (what, other): (&[u8], &[u8]) = if let Some(other) = existing.iter().find(|other| overlap(other, prefix)) {
            (b"an existing prefix", other)
        } else if let Some(other) = prefixes[index + 1..].iter().find(|other| overlap(other, prefix)) {
            (b"another provided prefix", other)
        } else {
            continue;
        };
        let end = b"'. Prefixes for a single client must not overlap.";
        return Err(CommandError::joined(&[b"ERR Prefix '", prefix, b"' overlaps with ", what, b" '", other, end]));
    }
    Ok(())
}

pub fn caching(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let tracking = &mut ctx.session.tracking;
    if !tracking.on {
        return Err(CommandError::fixed(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    }
    if args.is(2, "YES") {
        if !tracking.options.optin {
            return Err(CommandError::fixed(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
    } else if args.is(2, "NO") {
        if !tracking.options.optout {
            return Err(CommandError::fixed(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
    } else {
        return Err(error::SYNTAX);
    }
    tracking.caching = true;
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

pub fn getredir(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let tracking = &ctx.session.tracking;
    ctx.reply.integer(if tracking.on { tracking.options.redirect } else { -1 });
    Ok(SessionFlow::Done)
}

pub fn trackinginfo(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let tracking = &ctx.session.tracking;
    let options = &tracking.options;
    let flags = [
        (tracking.on, "on"),
        (!tracking.on, "off"),
        (options.bcast, "bcast"),
        (options.optin, "optin"),
        (options.optin && tracking.caching, "caching-yes"),
        (options.optout, "optout"),
        (options.optout && tracking.caching, "caching-no"),
        (options.noloop, "noloop"),
        (ctx.session.client.has(flag::TRACKING_BROKEN), "broken_redirect"),
    ];
    ctx.reply.map(3);
    ctx.reply.bulk(b"flags");
    ctx.reply.set(flags.iter().filter(|(set, _)| *set).count());
    flags.iter().filter(|(set, _)| *set).for_each(|(_, name)| ctx.reply.bulk(name.as_bytes()));
    ctx.reply.bulk(b"redirect");
    ctx.reply.integer(if tracking.on { options.redirect } else { -1 });
    ctx.reply.bulk(b"prefixes");
    ctx.reply.array(tracking.prefixes.len());
    tracking.prefixes.iter().for_each(|prefix| ctx.reply.bulk(prefix));
    Ok(SessionFlow::Done)
}
