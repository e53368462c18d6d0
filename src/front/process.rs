//! The process as the operating system sees it: facts for INFO; going to the background, the pid file, the service manager, the
//! score by which the kernel picks a victim.

use crate::base::clock;
use crate::engine::memory;
use crate::server::Server;
use crate::server::config::{Config, OomScoreAdj, Supervised};
use crate::server::process::Machine;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;
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
        supervised: supervisor(&server.config.current()),
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

/// Goes on without a terminal if that is configured. To be called before any thread is started.
pub fn daemonize(config: &Config) -> Result<(), String> {
    if !config.daemonize || supervisor(config) != "no" {
        return Ok(());
    }
    // The working directory is chosen already.
    nix::unistd::daemon(true, false).map_err(|error| format!("Can't daemonize: {}\n", error.desc()))
}

/// Where a daemon leaves its pid if it is not told.
const DEFAULT_PIDFILE: &str = "/var/run/redis.pid";

fn pidfile(config: &Config) -> Option<&str> {
    match config.pidfile.as_deref() {
        None | Some("") => config.daemonize.then_some(DEFAULT_PIDFILE),
        named => named,
    }
}

pub fn write_pidfile(config: &Config) {
    if let Some(file) = pidfile(config)
        && let Err(error) = std::fs::write(file, format!("{}\n", std::process::id()))
    {
        tracing::warn!("Failed to write PID file {file}: {error}");
    }
}

pub fn remove_pidfile(config: &Config) {
    if let Some(file) = pidfile(config)
        && std::fs::remove_file(file).is_ok()
    {
        tracing::info!("Removing the pid file.");
    }
}

/// Who watches over this process, as far as the configuration and the environment say.
fn supervisor(config: &Config) -> &'static str {
    let systemd = std::env::var_os("NOTIFY_SOCKET").is_some();
    let upstart = std::env::var_os("UPSTART_JOB").is_some();
    match config.supervised {
        Supervised::Systemd | Supervised::Auto if systemd => "systemd",
        Supervised::Upstart | Supervised::Auto if upstart => "upstart",
        _ => "no",
    }
}

/// Tells systemd a state (`READY=1`, `STOPPING=1`; sd_notify(3)).
pub fn notify_supervisor(config: &Config, state: &str) {
    if supervisor(config) != "systemd" {
        return;
    }
    let Some(path) = std::env::var("NOTIFY_SOCKET").ok() else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| {
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.send(format!("{state}\n").as_bytes())
    });
    if let Err(error) = sent {
        tracing::warn!("Cannot tell systemd '{state}': {error}");
    }
}

const OOM_FILE: &str = "/proc/self/oom_score_adj";

/// Sets the score by which the kernel picks a victim. Where it was switched off again, the score of the start comes back.
pub fn set_oom_score(config: &Config, is_replica: bool) -> Result<(), String> {
    static AT_START: OnceLock<Option<i32>> = OnceLock::new();
    let at_start = *AT_START.get_or_init(|| std::fs::read_to_string(OOM_FILE).ok()?.trim().parse().ok());
    let Some(at_start) = at_start else { return Ok(()) };
    let [primary, replica, _] = config.oom_score_adj_values.0;
    let wanted = if is_replica { replica } else { primary };
    let score = match config.oom_score_adj {
        OomScoreAdj::No => at_start,
        OomScoreAdj::Relative => at_start + wanted,
        OomScoreAdj::Absolute => wanted,
    };
    std::fs::write(OOM_FILE, score.clamp(-1000, 1000).to_string()).map_err(|error| {
        tracing::warn!("Unable to write oom_score_adj: {error}");
        "Failed to apply new oom_score_adj configuration, check server logs.".to_owned()
    })
}
