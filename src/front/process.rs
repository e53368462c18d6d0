//! The process as the operating system sees it: facts for INFO; going to the background, the pid file, the service manager, the
//! score by which the kernel picks a victim.

use crate::base::{clock, processors};
use crate::engine::memory;
use crate::server::Server;
use crate::server::config::{Config, OomScoreAdj, Supervised};
use crate::server::process::Machine;
use parking_lot::Mutex;
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
    let environment = environment();
    match config.supervised {
        Supervised::Systemd | Supervised::Auto if environment.notify_socket.is_some() => "systemd",
        Supervised::Upstart | Supervised::Auto if environment.is_upstart => "upstart",
        _ => "no",
    }
}

struct Environment {
    notify_socket: Option<String>,
    is_upstart: bool,
}

/// What the environment said at start: a long process title may overwrite it later.
fn environment() -> &'static Environment {
    static AT_START: OnceLock<Environment> = OnceLock::new();
    AT_START.get_or_init(|| Environment {
        notify_socket: std::env::var("NOTIFY_SOCKET").ok(),
        is_upstart: std::env::var_os("UPSTART_JOB").is_some(),
    })
}

/// Tells systemd a state (`READY=1`, `STOPPING=1`; sd_notify(3)).
pub fn notify_supervisor(config: &Config, state: &str) {
    if supervisor(config) != "systemd" {
        return;
    }
    let Some(path) = &environment().notify_socket else { return };
    let address = match path.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(path),
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

/// Descriptors beyond those of clients: log, files being saved, listening sockets, links.
const OTHER_DESCRIPTORS: u64 = 32;

/// Sees to it that as many clients as `maxclients` says may connect: at start by lowering it to what the system grants, later
/// by refusing more.
pub fn follow_maxclients(server: &'static Server) {
    let wanted = server.config.current().maxclients;
    if let Err(possible) = allow_clients(wanted) {
        tracing::warn!(
            "The system grants descriptors for {possible} clients only, not for the {wanted} of maxclients, which is lowered to \
             that. A higher limit needs a higher 'ulimit -n'."
        );
        server.config.update(|config| config.maxclients = possible);
    }
    server.config.on_apply(
        &["maxclients"],
        Box::new(|_, new| {
            allow_clients(new.maxclients).map_err(|possible| {
                format!(
                    "The operating system is not able to handle the specified number of clients, try with {possible}"
                )
            })
        }),
    );
}

/// Raises the limit of open descriptors if it is too low; otherwise says how many clients there may be.
fn allow_clients(clients: u32) -> Result<(), u32> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let wanted = u64::from(clients) + OTHER_DESCRIPTORS;
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return Ok(()) };
    if soft >= wanted || setrlimit(Resource::RLIMIT_NOFILE, wanted, hard.max(wanted)).is_ok() {
        return Ok(());
    }
    // Whoever may not raise the hard limit gets what is below it.
    let granted =
        if setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted), hard).is_ok() { hard.min(wanted) } else { soft };
    if granted >= wanted {
        return Ok(());
    }
    Err(u32::try_from(granted.saturating_sub(OTHER_DESCRIPTORS)).unwrap_or(u32::MAX).max(1))
}

type ListOf = fn(&Config) -> &Option<String>;

/// Threads run on the processors that the settings name for their kind. Redis fixes these lists at its start; here a change moves
/// the threads that run.
pub fn follow_processors(server: &'static Server) {
    let lists: [(&'static [&'static str], processors::Kind, ListOf); 4] = [
        (&["server-cpulist"], processors::Kind::Worker, |config| &config.server_cpulist),
        (&["bio-cpulist"], processors::Kind::Background, |config| &config.bio_cpulist),
        (&["aof-rewrite-cpulist"], processors::Kind::Rewrite, |config| &config.aof_rewrite_cpulist),
        (&["bgsave-cpulist"], processors::Kind::Snapshot, |config| &config.bgsave_cpulist),
    ];
    for (names, kind, list) in lists {
        let assign = move |config: &Config| processors::assign(kind, list(config).as_deref().unwrap_or(""));
        if let Err(reason) = assign(&server.config.current()) {
            tracing::warn!("{} is passed over: {reason}", names[0]);
        }
        server.config.on_apply(names, Box::new(move |_, new| assign(new)));
    }
}

const OOM_FILE: &str = "/proc/self/oom_score_adj";

/// Sets the score by which the kernel picks a victim. When it is switched off the score that was found comes back, and from then on
/// whatever others set is left alone.
pub fn set_oom_score(config: &Config, is_replica: bool) -> Result<(), String> {
    static FOUND: Mutex<Option<i32>> = Mutex::new(None);
    let mut found = FOUND.lock();
    let read = || std::fs::read_to_string(OOM_FILE).ok()?.trim().parse().ok();
    let is_off = config.oom_score_adj == OomScoreAdj::No;
    let Some(base) = (if is_off { found.take() } else { found.or_else(read) }) else { return Ok(()) };
    let [primary, replica, _] = config.oom_score_adj_values.0;
    let wanted = if is_replica { replica } else { primary };
    let score = match config.oom_score_adj {
        OomScoreAdj::No => base,
        OomScoreAdj::Relative => base + wanted,
        OomScoreAdj::Absolute => wanted,
    };
    *found = (!is_off).then_some(base);
    std::fs::write(OOM_FILE, score.clamp(-1000, 1000).to_string()).map_err(|error| {
        tracing::warn!("Unable to write oom_score_adj: {error}");
        "Failed to apply new oom_score_adj configuration, check server logs.".to_owned()
    })
}
