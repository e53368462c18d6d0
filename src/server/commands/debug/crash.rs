//! DEBUG's ways to die, and to stand still.

use super::DebugCommand;
use crate::commands::error::{self, CommandError};
use crate::resp::Args;
use crate::server::session::{SessionContext, SessionFlow};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::time::Duration;

pub const SUBCOMMANDS: &[DebugCommand] = &[
    DebugCommand::new("SLEEP", (1, 1), "<seconds>", "Stops the server for <seconds>. Decimals allowed.", sleep),
    DebugCommand::new("SEGFAULT", (0, 0), "", "Crashes the server with SIGSEGV.", segfault),
    DebugCommand::new("ASSERT", (0, 0), "", "Crashes the server by a failed assertion.", assert),
    DebugCommand::new("PANIC", (0, 0), "", "Crashes the server by a panic.", panic),
];

/// All shards are locked, and every worker stops at its next batch: nobody is answered meanwhile.
fn sleep(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let seconds: f64 = std::str::from_utf8(&args[2]).ok().and_then(|text| text.parse().ok()).unwrap_or(0.0);
    let pause = Duration::try_from_secs_f64(seconds).map_err(|_| error::NOT_A_FLOAT)?;
    let server = ctx.worker.server;
    {
        let _standstill = server.standstill.lock();
        server.renew_settings();
        std::thread::sleep(pause);
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

/// The signal goes to the process, where the thread that reports crashes takes it.
fn segfault(_: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    kill(Pid::this(), Signal::SIGSEGV).map_err(|error| CommandError::new(format!("ERR {error}")))?;
    // Nothing is answered any more, as after a real one.
    std::thread::sleep(Duration::from_secs(60));
    Ok(SessionFlow::Close)
}

fn assert(_: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    panic!("ASSERTION FAILED: 1 == 2 is not true (DEBUG ASSERT)");
}

fn panic(_: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    panic!("called by Unit Test (DEBUG PANIC)");
}
