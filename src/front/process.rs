//! The process as the operating system sees it: facts for INFO.

use crate::base::clock;
use crate::engine::memory;
use crate::server::Server;
use crate::server::process::Machine;
use std::sync::atomic::Ordering;

/// Notes what does not change, and the memory of the empty server.
pub fn observe(server: &Server) {
    let uname = nix::sys::utsname::uname().ok();
    let os = uname.map(|name| {
        let word = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
        format!("{} {} {}", word(name.sysname()), word(name.release()), word(name.machine()))
    });
    let executable = std::env::current_exe().map(|path| path.display().to_string());
    let machine = Machine {
        os: os.unwrap_or_default(),
        executable: executable.unwrap_or_default(),
        total_memory: total_memory().unwrap_or(0),
        supervised: "no",
    };
    // Set once, here.
    let _ = server.process.machine.set(machine);
    let used = memory::used();
    server.process.startup.store(used, Ordering::Relaxed);
    sample(server, clock::unix_ms());
}

/// What cron looks up again and again.
pub fn sample(server: &Server, now_ms: i64) {
    server.process.note_used(memory::used(), now_ms);
    if let Some(bytes) = resident() {
        server.process.rss.store(bytes, Ordering::Relaxed);
    }
}

/// The second number of /proc/self/statm, in pages.
fn resident() -> Option<usize> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: usize = text.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok()??;
    Some(pages * page as usize)
}

/// `MemTotal:  24684092 kB` of /proc/meminfo.
fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    Some(line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
}
