//! Wiring: reads the configuration, puts the rooms together, starts threads and tasks, waits for the end.

use crate::base::{clock, processors};
use crate::cli::{self, Invocation};
use crate::cluster::{self, Bus};
use crate::engine::memory;
use crate::front::pool::Pool;
use crate::front::ports::Ports;
use crate::front::{busy, crash, cron, gathering, listener, log, process, signals, title, tls, watchdog};
use crate::net::direct;
use crate::persistence::{self, config_file};
use crate::replication;
use crate::replication::primary;
use crate::replication::primary::shutdown::{Waited, await_replicas};
use crate::script;
use crate::sentinel;
use crate::server::config::{Arguments, Checks, Config, ConfigStore, Extra, Loaded, REDIS_VERSION};
use crate::server::intents::ShutdownWish;
use crate::server::table::CommandTable;
use crate::server::{Server, acl, commands};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The whole program.
pub fn main() -> ExitCode {
    match cli::parse(std::env::args_os()) {
        Invocation::Say(saying) => ExitCode::from(saying.say()),
        Invocation::Serve(arguments) => match serve(&arguments) {
            Ok(()) => ExitCode::SUCCESS,
            Err(reason) => {
                eprint!("{reason}");
                ExitCode::FAILURE
            }
        },
    }
}

fn serve(arguments: &Arguments) -> Result<(), String> {
    let config_path = config_file::config_path(arguments);
    let sessions = [
        commands::FAMILIES,
        script::commands::FAMILIES,
        &[
            persistence::commands::COMMANDS,
            primary::commands::COMMANDS,
            cluster::commands::COMMANDS,
            cluster::migrate::COMMANDS,
        ],
    ]
    .concat();
    let mut table = match arguments.is_sentinel {
        true => CommandTable::for_sentinel(&sessions, sentinel::commands::COMMANDS),
        false => CommandTable::new(crate::commands::FAMILIES, &sessions),
    };
    let checks = Checks {
        command_exists: &|name| table.find(name).is_some(),
        user: &|words| acl::rules::check_declaration(&table, words),
    };
    let mut loaded = config_file::load(arguments, checks);
    if let Some(problem) = loaded.problems.first() {
        return Err(problem.fatal_text());
    }
    config_file::enter_dir(&mut loaded.config)?;
    let watch = match arguments.is_sentinel {
        true => Some(read_watch(&loaded)?),
        false => None,
    };
    process::daemonize(&loaded.config)?;
    crash::block_signals();
    log::start(&loaded.config);
    if let Some(Err(reason)) = watch.as_ref().map(|_| sentinel::service::check_file(config_path.as_deref())) {
        tracing::warn!("{reason}");
        std::process::exit(1);
    }
    for declared in &loaded.renamed_commands {
        if let [old, new] = declared.words.as_slice() {
            table.rename(old, new);
        }
    }
    let table = table.leaked();
    let store = ConfigStore::new(loaded.config);
    store.on_apply(&["dir"], Box::new(|_, new| config_file::enter_dir(new)));
    let server = Server::leak(store, table, config_path, clock::unix_ms());
    server.config.rewrite_with(Box::new(|config, force_all| {
        let Some(file) = &server.config_file else { return Err("there is no file".into()) };
        // With an ACL file the users have their own place.
        let users = if config.aclfile.is_empty() { server.user_lines() } else { Vec::new() };
        config_file::rewrite_file(file, config, &Extra { users: Some(users), ..Extra::default() }, force_all)
    }));
    server.declare_debug_commands(
        [
            commands::debug::SUBCOMMANDS,
            &[persistence::debug::SUBCOMMANDS, primary::debug::SUBCOMMANDS, cluster::debug::SUBCOMMANDS],
        ]
        .concat(),
    );
    let _ = server.acl.file.set(persistence::acl_file::FILE);
    server
        .config
        .on_changed(&["requirepass"], Box::new(|_, new| server.set_default_password(new.requirepass.as_deref())));
    process::observe(server);
    // Placed once, before anything is loaded.
    let _ = server.save_status.compile_library.set(script::functions::compile);
    let _ = server.save_status.save_now.set(persistence::rdb_save::save);
    log::follow(server);
    primary::start(server);
    crash::watch(server).map_err(|error| error.to_string())?;
    let _ = server.busy_hook.set(busy::serve_others);
    let _ = server.clients.hang_up.set(direct::hang_up);
    let _ = server.clients.has_hung_up.set(direct::has_hung_up);
    follow_oom_score(server);
    follow_allocator(server);
    process::follow_maxclients(server);
    process::follow_processors(server);
    process::write_pidfile(&server.config.current());
    announce(server);
    if let Err(reason) = persistence::acl_file::start(server, &loaded.users) {
        reason.lines().for_each(|line| tracing::warn!("{line}"));
        std::process::exit(1);
    }
    std::thread::Builder::new()
        .name("lazyfree".into())
        .spawn(|| {
            let _member = processors::join(processors::Kind::Background);
            server.lazyfree.run()
        })
        .map_err(|error| error.to_string())?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(run(server, watch))
}

/// What a Sentinel is told to watch. A fault is told with its line, like any other of the file.
fn read_watch(loaded: &Loaded) -> Result<sentinel::service::Watch, String> {
    sentinel::service::read(&loaded.config, &loaded.sentinel).map_err(|problem| problem.fatal_text())
}

/// The kernel's view of the process follows the settings.
fn follow_oom_score(server: &'static Server) {
    // Told in the log; the server runs without it.
    let renew = |server: &Server| drop(set_oom_score(server, &server.config.current()));
    renew(server);
    let _ = server.role_hook.set(renew);
    let names = &["oom-score-adj", "oom-score-adj-values"];
    server.config.on_apply(names, Box::new(move |_, new| set_oom_score(server, new)));
}

/// What was freed goes back to the system even while nobody asks for anything.
fn follow_allocator(server: &'static Server) {
    memory::set_background_thread(server.config.current().jemalloc_bg_thread);
    let follow = |new: &Config| memory::set_background_thread(new.jemalloc_bg_thread);
    server.config.on_changed(&["jemalloc-bg-thread"], Box::new(move |_, new| follow(new)));
}

fn set_oom_score(server: &Server, config: &Config) -> Result<(), String> {
    process::set_oom_score(config, server.is_replica.load(Ordering::Acquire))
}

/// The first lines of the log, which tools and tests wait for.
fn announce(server: &Server) {
    tracing::warn!("oO0OoO0OoO0Oo Redis is starting oO0OoO0OoO0Oo");
    tracing::warn!(
        "Redis version={REDIS_VERSION}, bits=64, rsredis version={}, pid={}, just started",
        env!("CARGO_PKG_VERSION"),
        std::process::id()
    );
    if server.config_file.is_some() {
        tracing::warn!("Configuration loaded");
    }
}

/// Binds, serves, and shuts down when it is asked to.
async fn run(server: &'static Server, watch: Option<sentinel::service::Watch>) -> Result<(), String> {
    let config = server.config.current();
    tls::start(server)?;
    let pool = Pool::start(server).map_err(|error| error.to_string())?;
    // Before the first client: nobody may see or change a data set that is not there yet. A Sentinel has none.
    server.loading.store(watch.is_none(), Ordering::Release);
    let ports = Ports::open(server, Arc::clone(&pool))?;
    let cluster = open_cluster(server)?;
    title::follow(server);
    watchdog::follow(server);
    let mode = config.mode();
    tracing::warn!("Running mode={mode}, port={}. PID: {}", config.port, std::process::id());
    tracing::warn!("Server initialized");
    tokio::spawn(tls::follow_files(server));
    if let Some(path) = &config.unixsocket {
        let listener = bind_unix(path, config.unixsocketperm)?;
        tokio::spawn(listener::accept_unix(server, Arc::clone(&pool), listener, path.clone()));
    }
    tokio::spawn(signals::listen(server));
    tokio::spawn(cron::run(server));
    tokio::spawn(gathering::run(server));
    match watch {
        Some(watch) => sentinel::service::start(server, watch),
        None => {
            tokio::spawn(cluster::migrate::run(server));
            load(server).await;
            if let Some((bus, listeners)) = cluster {
                bus.start(listeners)?;
            }
            replication::replica::start(server).map_err(|error| error.to_string())?;
            tracing::info!("Ready to accept connections");
        }
    }
    process::notify_supervisor(&config, "READY=1\nSTATUS=Ready to accept connections");
    loop {
        let wish: ShutdownWish = std::future::poll_fn(|context| match server.intents.poll_shutdown(context.waker()) {
            Some(wish) => std::task::Poll::Ready(wish),
            None => std::task::Poll::Pending,
        })
        .await;
        // DEBUG PAUSE-CRON holds back what signals ask for, as in Redis, where the cron does it.
        while server.cron_paused.load(Ordering::Relaxed) && server.intents.is_shutdown_by_signal() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        if !server.intents.is_shutting_down() {
            continue;
        }
        let Waited::Done(mut wish) = await_replicas(server, wish).await else { continue };
        if config.is_sentinel {
            wish.save = Some(false);
        }
        // On another thread: a second SIGINT must be heard meanwhile. The process ends there, too: the locks that are never given
        // back may hold up this one for good.
        let ports = Arc::clone(&ports);
        let prepared = tokio::task::spawn_blocking(move || {
            if persistence::shutdown::prepare(server, wish) {
                primary::stop(server);
                ports.close();
                exit(&server.config.current());
            }
        });
        // An error is a panic, which ends the process by itself.
        let _ = prepared.await;
        tracing::warn!("Errors trying to shut down the server. Check the logs for more information.");
        server.give_up_shutdown();
    }
}

/// A node of a cluster: its file, and the sockets of its bus, which nobody is let in by before the data is there.
fn open_cluster(server: &'static Server) -> Result<Option<(&'static Bus, Vec<TcpListener>)>, String> {
    let config = server.config.current();
    if !config.cluster_enabled {
        return Ok(None);
    }
    let told = |reason: String| {
        tracing::warn!("{reason}");
        format!("{reason}\n")
    };
    let port = cluster::port(&config).map_err(told)?;
    if config.bind.0.is_empty() {
        return Err(told("No bind address is configured, but it is required for the Cluster bus.".into()));
    }
    let bus = Bus::open(server).map_err(told)?;
    let listeners = listener::bind(&config, port).map_err(|reason| {
        tracing::warn!("Failed listening on port {port} (cluster), aborting.");
        format!("{reason}\n")
    })?;
    Ok(Some((bus, listeners)))
}

/// Everything is saved, and no command runs any more.
fn exit(config: &Config) -> ! {
    if let Some(path) = &config.unixsocket {
        // The socket's file would keep the next start from binding.
        let _ = std::fs::remove_file(path);
    }
    process::notify_supervisor(config, "STOPPING=1");
    process::remove_pidfile(config);
    let name = if config.is_sentinel { "Sentinel" } else { "Redis" };
    tracing::warn!("{name} is now ready to exit, bye bye...");
    std::process::exit(0)
}

/// Loads the data set on a thread of its own, so that clients are answered meanwhile. A shutdown need not wait for it.
async fn load(server: &'static Server) {
    let loading = tokio::task::spawn_blocking(|| persistence::startup::load(server));
    let wish = std::future::poll_fn(|context| match server.intents.poll_shutdown(context.waker()) {
        Some(wish) => std::task::Poll::Ready(wish),
        None => std::task::Poll::Pending,
    });
    tokio::select! {
        loaded = loading => {
            let result = loaded.unwrap_or_else(|error| Err(error.to_string()));
            if let Err(reason) = result {
                if !reason.is_empty() {
                    tracing::warn!("{reason}");
                }
                std::process::exit(1);
            }
        }
        wish = wish => server.intents.wish_shutdown(wish, None),
    }
}

fn bind_unix(path: &str, mode: u32) -> Result<std::os::unix::net::UnixListener, String> {
    // A socket left by a process that was killed.
    let _ = std::fs::remove_file(path);
    let listener = std::os::unix::net::UnixListener::bind(path)
        .map_err(|error| format!("Failed opening Unix socket: bind: {error}\n"))?;
    if mode != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(|error| format!("Failed to set the mode of {path}: {error}\n"))?;
    }
    Ok(listener)
}
