//! INFO server.

use super::{Field, Figure};
use crate::server::config::REDIS_VERSION;
use std::sync::atomic::Ordering;

pub const FIELDS: &[Field] = &[
    Field::new("redis_version", |_| REDIS_VERSION.into()),
    Field::new("server_name", |_| "rsredis".into()),
    Field::new("rsredis_version", |_| env!("CARGO_PKG_VERSION").into()),
    Field::new("redis_git_sha1", |_| "00000000".into()),
    Field::new("redis_git_dirty", |_| 0u64.into()),
    Field::new("redis_build_id", |_| BUILD_ID.into()),
    Field::new("redis_mode", |view| view.config.mode().into()),
    Field::new("os", |view| view.machine().os.clone().into()),
    Field::new("arch_bits", |_| u64::from(usize::BITS).into()),
    Field::new("monotonic_clock", |_| "cycle counter".into()),
    Field::new("multiplexing_api", |_| "epoll".into()),
    Field::new("atomicvar_api", |_| "rust".into()),
    Field::new("gcc_version", |_| "0.0.0".into()),
    Field::new("process_id", |_| std::process::id().into()),
    Field::new("process_supervised", |view| view.machine().supervised.into()),
    Field::new("run_id", |view| view.server.run_id.as_str().into()),
    Field::new("tcp_port", |view| {
        u64::from(if view.config.port > 0 { view.config.port } else { view.config.tls_port }).into()
    }),
    Field::new("server_time_usec", |view| view.now_us.into()),
    Field::new("uptime_in_seconds", |view| view.uptime_s().into()),
    Field::new("uptime_in_days", |view| (view.uptime_s() / 86400).into()),
    Field::new("hz", |view| view.config.hz.into()),
    Field::new("configured_hz", |view| view.config.hz.into()),
    Field::new("lru_clock", |view| ((view.now_us / 1_000_000) & 0xff_ffff).into()),
    Field::new("executable", |view| view.machine().executable.clone().into()),
    Field::new("config_file", |view| {
        view.server.config_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default().into()
    }),
    Field::new("io_threads_active", |view| (view.server.workers.active() > 1).into()),
    Field::new("io_threads", |view| view.config.io_threads.into()),
    Field::new("shutdown_in_milliseconds", |view| {
        let until = view.server.intents.shutdown_deadline_ms().filter(|until| *until > 0);
        until.map_or(Figure::Absent, |until| (until - view.now_us / 1000).max(0).into())
    }),
    Field::new("listener0", |view| listener(view, 0)),
    Field::new("listener1", |view| listener(view, 1)),
];

/// One number per build would need a clock in the build; the version names the build well enough.
const BUILD_ID: &str = concat!("rsredis", env!("CARGO_PKG_VERSION"));

/// `listener0:name=tcp,bind=127.0.0.1,bind=-::1,port=6379`: those that are open, numbered.
fn listener(view: &super::View<'_>, index: usize) -> Figure {
    let config = &view.config;
    let tcp = (config.port > 0).then(|| {
        let binds: String = config.bind.0.iter().map(|address| format!("bind={address},")).collect();
        format!("name=tcp,{binds}port={}", config.port)
    });
    let unix = config.unixsocket.as_ref().map(|path| format!("name=unix,bind={path}"));
    tcp.into_iter().chain(unix).nth(index).map_or(Figure::Absent, Figure::Text)
}

impl super::View<'_> {
    fn machine(&self) -> crate::server::process::Machine {
        let mut machine = self.server.process.machine.get().cloned().unwrap_or_default();
        if machine.supervised.is_empty() {
            machine.supervised = "no";
        }
        machine
    }

    pub(super) fn is_loading(&self) -> bool {
        self.server.loading.load(Ordering::Relaxed)
    }
}
