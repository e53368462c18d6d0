//! The report that a dying server leaves in its log: of a panic, or of a signal that somebody sent.
//!
//! Fatal signals are blocked in every thread and waited for by one; no handler runs in the middle of anything. A real fault
//! of the processor does not wait: the kernel ends the process at once, as it does with any blocked fault.

use crate::server::Server;
use nix::sys::signal::{SigSet, Signal};
use std::backtrace::Backtrace;

const FATAL: [Signal; 5] = [Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGFPE, Signal::SIGILL, Signal::SIGABRT];

/// To be called before any thread is started: threads inherit what is blocked.
pub fn block_signals() {
    // Fails only for numbers that are no signals.
    let _ = watched().thread_block();
}

fn watched() -> SigSet {
    let mut set: SigSet = FATAL.into_iter().collect();
    set.add(Signal::SIGALRM);
    set
}

/// Reports panics, and waits for signals on a thread of its own.
pub fn watch(server: &'static Server) -> std::io::Result<()> {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("a panic without a text");
        if server.config.current().crash_log_enabled {
            report(&format!("=== ASSERTION FAILED ===\n==> {place} '{text}' is not true"));
        }
        if server.config.current().use_exit_on_panic {
            std::process::exit(1);
        }
    }));
    std::thread::Builder::new().name("crash".into()).spawn(move || wait(server))?;
    Ok(())
}

fn wait(server: &Server) {
    while let Ok(signal) = watched().wait() {
        if signal == Signal::SIGALRM {
            tracing::warn!("\n--- WATCHDOG TIMER EXPIRED ---\nReceived SIGALRM\n{}", Backtrace::force_capture());
            tracing::warn!("--------");
            continue;
        }
        if server.config.current().crash_log_enabled {
            report(&format!(
                "Redis {} crashed by signal: {}, si_code: 0",
                crate::server::config::REDIS_VERSION,
                signal as i32
            ));
        }
        die(signal);
    }
}

/// The parent shall see which signal it was.
fn die(signal: Signal) -> ! {
    let mut set = SigSet::empty();
    set.add(signal);
    let _ = set.thread_unblock();
    let _ = nix::sys::signal::raise(signal);
    std::process::exit(128 + signal as i32)
}

fn report(cause: &str) {
    tracing::error!("\n\n=== REDIS BUG REPORT START: Cut & paste starting from here ===\n{cause}");
    tracing::error!("\n------ STACK TRACE ------\n{}\n------ STACK TRACE DONE ------", Backtrace::force_capture());
    tracing::error!(
        "\n=== REDIS BUG REPORT END. Make sure to include from START to END. ===\n\n       Please report the crash with all of this."
    );
}
