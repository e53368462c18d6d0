//! What moves the machine: the timer, the connections, the file, the scripts. Everything the machine wants done is done in its order,
//! under its lock, so that nobody learns of a vote before it is on disk.

use super::action::{Action, Level};
use super::core::Core;
use super::file;
use super::instance::ConnId;
use super::names::SystemNames;
use super::scripts::Ending;
use super::wire;
use crate::base::clock;
use crate::base::random::Random;
use crate::persistence::config_file;
use crate::server::Server;
use crate::server::config::{Config, Declared, Extra, Problem};
use nix::unistd::{AccessFlags, access};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::OnceLock;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

static SERVICE: OnceLock<&'static Service> = OnceLock::new();

/// The sentinel of this process; there is one in Sentinel mode.
pub fn get() -> Option<&'static Service> {
    SERVICE.get().copied()
}

pub struct Service {
    pub server: &'static Server,
    runtime: Handle,
    state: Mutex<State>,
}

struct State {
    core: Core,
    conns: HashMap<ConnId, UnboundedSender<Vec<u8>>>,
    children: Vec<(u64, Child)>,
    environment: Vec<(OsString, OsString)>,
}

/// A machine that has read its file and waits for the start.
pub struct Watch {
    core: Core,
    /// Of the start: the title of the process will be written over the one that the system keeps.
    environment: Vec<(OsString, OsString)>,
}

/// Whether the file could be brought in line with what has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saved {
    /// Or there was nothing to be saved.
    Yes,
    No,
}

/// Reads the directives of Sentinel mode. The order of the lines does not matter.
pub fn read(config: &Config, declared: &[Declared]) -> Result<Watch, Problem> {
    let seed = Random::from_entropy().next_u64() ^ u64::from(std::process::id());
    let mut core = Core::new(clock::unix_ms(), seed, Box::new(SystemNames::default()));
    adopt(&mut core, config);
    for now in 0..3 {
        for line in declared.iter().filter(|line| file::turn(&line.words) == now) {
            core.read_line(&line.words, &may_run)
                .map_err(|reason| Problem { place: Some(line.place.clone()), reason })?;
        }
    }
    Ok(Watch { core, environment: std::env::vars_os().collect() })
}

/// What the machine has to know of the ordinary settings.
fn adopt(core: &mut Core, config: &Config) {
    core.settings.own_password = config.requirepass.as_ref().filter(|word| !word.is_empty()).cloned();
    core.settings.port = if config.tls_replication && config.tls_port != 0 { config.tls_port } else { config.port };
}

/// Whether a script is there and can be executed.
pub fn may_run(path: &[u8]) -> bool {
    access(Path::new(OsStr::from_bytes(path)), AccessFlags::X_OK).is_ok()
}

/// Sentinel keeps its state in its file: without one that can be written it must not start.
pub fn check_file(path: Option<&Path>) -> Result<(), String> {
    let Some(path) = path else {
        return Err("Sentinel needs config file on disk to save state. Exiting...".into());
    };
    if path.extension().is_some_and(|extension| extension == "toml") {
        return Err(format!(
            "Sentinel rewrites its config file, which a TOML file ({}) does not allow. Exiting...",
            path.display()
        ));
    }
    access(path, AccessFlags::W_OK).map_err(|errno| {
        format!("Sentinel config file {} is not writable: {}. Exiting...", path.display(), errno.desc())
    })
}

/// Begins to watch. To be called inside the runtime that the connections shall live in.
pub fn start(server: &'static Server, watch: Watch) {
    let state = State { core: watch.core, conns: HashMap::new(), children: Vec::new(), environment: watch.environment };
    let service: &'static Service =
        Box::leak(Box::new(Service { server, runtime: Handle::current(), state: Mutex::new(state) }));
    if SERVICE.set(service).is_err() {
        return;
    }
    service.change(|core, now_ms| core.begin(now_ms, crate::server::role::new_replid));
    tokio::spawn(service.run());
}

impl Service {
    /// The timer. Its rhythm varies, so that sentinels which were started together do not ask for votes together.
    async fn run(&'static self) {
        let mut dice = Random::from_entropy();
        loop {
            let hz = 10 + dice.below(10);
            tokio::time::sleep(Duration::from_millis(1000 / hz)).await;
            self.collect_children();
            self.change(|core, now_ms| core.tick(now_ms));
        }
    }

    /// Only looks.
    pub fn look<T>(&self, view: impl FnOnce(&Core, i64) -> T) -> T {
        view(&self.state.lock().core, clock::unix_ms())
    }

    /// Changes the machine and does what follows.
    pub fn change<T>(&'static self, work: impl FnOnce(&mut Core, i64) -> T) -> T {
        self.change_and_save(work).0
    }

    /// The same for those who must know whether the file has followed.
    pub fn change_and_save<T>(&'static self, work: impl FnOnce(&mut Core, i64) -> T) -> (T, Saved) {
        let mut state = self.state.lock();
        let now_ms = clock::unix_ms();
        state.core.now_ms = now_ms;
        adopt(&mut state.core, &self.server.config.current());
        let result = work(&mut state.core, now_ms);
        let saved = self.act(&mut state);
        (result, saved)
    }

    fn act(&'static self, state: &mut State) -> Saved {
        let mut saved = None;
        loop {
            let actions = state.core.take_actions();
            if actions.is_empty() {
                return saved.unwrap_or(Saved::Yes);
            }
            for action in actions {
                match action {
                    Action::Connect { conn, ip, port } => {
                        let (sender, requests) = unbounded_channel();
                        state.conns.insert(conn, sender);
                        self.runtime.spawn(wire::serve(self, conn, ip, port, requests));
                    }
                    // The task may have ended a moment ago; it tells so itself.
                    Action::Send { conn, bytes } => {
                        drop(state.conns.get(&conn).map(|sender| sender.send(bytes)));
                    }
                    Action::Close { conn } => drop(state.conns.remove(&conn)),
                    Action::Log { level, text } => log(level, &text),
                    Action::Event { level, channel, message } => {
                        log(level, &format!("{channel} {message}"));
                        if level != Level::Debug {
                            self.server.publish(channel.as_bytes(), message.as_bytes());
                        }
                    }
                    // All changes of one step go into the file at once.
                    Action::Persist => drop(saved.get_or_insert_with(|| self.save(&state.core))),
                    Action::RunScript { job, words } => run_script(state, job, &words),
                    Action::KillScript { job } => {
                        for (_, child) in state.children.iter_mut().filter(|(number, _)| *number == job) {
                            // It has ended by itself, then.
                            let _ = child.kill();
                        }
                    }
                    Action::Crash => {
                        log(Level::Warning, "Sentinel CRASH because of SENTINEL simulate-failure");
                        std::process::exit(99);
                    }
                }
            }
        }
    }

    fn save(&self, core: &Core) -> Saved {
        let config = self.server.config.current();
        // With an ACL file the users have their own place.
        let users = if config.aclfile.is_empty() { self.server.user_lines() } else { Vec::new() };
        let extra = Extra { users: Some(users), sentinel: Some(core.lines()) };
        let path = self.server.config_file.as_deref().ok_or("there is no file".to_owned());
        match path.and_then(|path| config_file::rewrite_file(path, &config, &extra, false)) {
            Ok(()) => {
                log(Level::Notice, "Sentinel new configuration saved on disk");
                Saved::Yes
            }
            Err(reason) => {
                let text = "WARNING: Sentinel was not able to save the new configuration on disk!!!";
                log(Level::Warning, &format!("{text}: {reason}"));
                Saved::No
            }
        }
    }

    /// A connection has come to its end.
    pub fn drop_conn(&'static self, conn: ConnId) {
        let mut state = self.state.lock();
        state.conns.remove(&conn);
        state.core.closed(clock::unix_ms(), conn);
        self.act(&mut state);
    }

    fn collect_children(&'static self) {
        let mut state = self.state.lock();
        let mut ended = Vec::new();
        state.children.retain_mut(|(job, child)| match child.try_wait() {
            Ok(None) => true,
            Ok(Some(status)) => {
                let ending = status.signal().map_or(Ending::Exit(status.code().unwrap_or(0)), Ending::Signal);
                ended.push((*job, ending));
                false
            }
            // Somebody else has waited for it: nothing is known of its end.
            Err(_) => {
                ended.push((*job, Ending::Exit(0)));
                false
            }
        });
        for (job, ending) in ended {
            state.core.script_ended(clock::unix_ms(), job, ending);
        }
        self.act(&mut state);
    }
}

fn run_script(state: &mut State, job: u64, words: &[Vec<u8>]) {
    let mut words = words.iter().map(|word| OsStr::from_bytes(word));
    let Some(path) = words.next() else { return };
    let environment = state.environment.iter().map(|(name, value)| (name, value));
    match Command::new(path).args(words).env_clear().envs(environment).spawn() {
        Ok(child) => {
            state.core.script_started(job, child.id());
            state.children.push((job, child));
        }
        Err(error) => {
            // As a shell has it, more or less: what cannot be executed ends with 2; without a process it is tried again.
            let no_process = matches!(error.raw_os_error(), Some(nix::libc::EAGAIN | nix::libc::ENOMEM));
            let ending = if no_process { Ending::NoProcess } else { Ending::Exit(2) };
            state.core.script_ended(clock::unix_ms(), job, ending);
        }
    }
}

fn log(level: Level, text: &str) {
    match level {
        Level::Debug => tracing::trace!("{text}"),
        Level::Verbose => tracing::debug!("{text}"),
        Level::Notice => tracing::info!("{text}"),
        Level::Warning => tracing::warn!("{text}"),
    }
}
