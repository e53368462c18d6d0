//! DEBUG's switches.

use super::{DebugCommand, switch};
use crate::commands::args;
use crate::commands::error::CommandError;
use crate::engine::memory;
use crate::resp::Args;
use crate::server::commands::config;
use crate::server::config::read_memory;
use crate::server::session::{SessionContext, SessionFlow};
use crate::server::state::REPLY_PEAK_RESET_MS;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub const SUBCOMMANDS: &[DebugCommand] = &[
    DebugCommand::new(
        "SET-ACTIVE-EXPIRE",
        (1, 1),
        "<0|1>",
        "Switches the removal of expired keys that nobody asks for.",
        set_active_expire,
    ),
    DebugCommand::new("PAUSE-CRON", (1, 1), "<0|1>", "Stops periodic work.", pause_cron),
    DebugCommand::new(
        "SET-SKIP-CHECKSUM-VALIDATION",
        (1, 1),
        "<0|1>",
        "Switches the check of RDB files' and RESTORE's checksums off.",
        skip_checksums,
    ),
    DebugCommand::new(
        "SET-DISABLE-DENY-SCRIPTS",
        (1, 1),
        "<0|1>",
        "Lets scripts call commands that scripts may not call.",
        disable_deny_scripts,
    ),
    DebugCommand::new(
        "QUICKLIST-PACKED-THRESHOLD",
        (1, 1),
        "<size>",
        "Size from which a list element has a node of its own; 0 for the default of 1 GB.",
        packed_threshold,
    ),
    DebugCommand::new(
        "REPLYBUFFER",
        (2, 2),
        "PEAK-RESET-TIME <NEVER|RESET|milliseconds> | RESIZING <0|1>",
        "How long a client's reply buffer is remembered as large, and whether it shrinks.",
        replybuffer,
    ),
    DebugCommand::new("MALLCTL", (1, 1), "<key>", "Shows a number among the allocator's settings.", mallctl),
    DebugCommand::new(
        "CONFIG-REWRITE-FORCE-ALL",
        (0, 0),
        "",
        "Like CONFIG REWRITE, but every directive goes into the file.",
        rewrite_all,
    ),
    DebugCommand::new(
        "ACTIVE-WORKERS",
        (1, 1),
        "<count>",
        "Lets so many workers have connections; 0 for as many as the load demands.",
        active_workers,
    ),
];

fn mallctl(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let figure = memory::allocator_figure(&args[2]).ok_or(CommandError::fixed("ERR No such file or directory"))?;
    ctx.reply.integer(figure as i64);
    Ok(SessionFlow::Done)
}

fn done(ctx: &mut SessionContext<'_>) -> Result<SessionFlow, CommandError> {
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn set_active_expire(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.worker.server.active_expire.store(switch(args, 2)?, Ordering::Relaxed);
    done(ctx)
}

fn pause_cron(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.worker.server.cron_paused.store(switch(args, 2)?, Ordering::Relaxed);
    done(ctx)
}

fn skip_checksums(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.worker.server.save_status.skip_checksum.store(switch(args, 2)?, Ordering::Release);
    ctx.worker.server.renew_settings();
    done(ctx)
}

fn disable_deny_scripts(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    ctx.worker.server.allow_noscript.store(switch(args, 2)?, Ordering::Relaxed);
    done(ctx)
}

fn packed_threshold(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let size = read_memory(&args[2]).and_then(|size| usize::try_from(size).ok());
    let size = size.filter(|size| *size <= 1 << 32);
    let size =
        size.ok_or(CommandError::fixed("ERR argument must be a memory value bigger than 1 and smaller than 4gb"))?;
    let threshold = if size == 0 { 1 << 30 } else { size };
    ctx.worker.server.config.update(|config| Arc::make_mut(&mut config.limits).packed_threshold = threshold);
    ctx.worker.renew_settings();
    done(ctx)
}

fn replybuffer(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let switches = &ctx.worker.server.switches;
    if args.is(2, "RESIZING") {
        switches.reply_buffer_resizing.store(switch(args, 3)?, Ordering::Relaxed);
    } else if args.is(2, "PEAK-RESET-TIME") {
        let ms = match () {
            () if args.is(3, "NEVER") => -1,
            () if args.is(3, "RESET") => REPLY_PEAK_RESET_MS,
            () => args::integer(&args[3])?,
        };
        switches.reply_peak_reset_ms.store(ms, Ordering::Relaxed);
    } else {
        return Err(CommandError::fixed(
            "ERR unknown subcommand or wrong number of arguments for 'replybuffer'. Try DEBUG HELP.",
        ));
    }
    done(ctx)
}

fn rewrite_all(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    config::rewrite_file(ctx, true)
}

fn active_workers(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let count = args::integer(&args[2])?;
    ctx.worker.server.workers.pin(count.max(0) as usize);
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}
