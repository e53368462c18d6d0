//! What moves the machine: sockets, time, the file, and the server on which its decisions take effect.
//!
//! ```text
//!   links, ticks (own thread) ┐                        ┌─► settle: every shard locked ─► role, map, pause, lost keys
//!   CLUSTER … (any worker)    ┴─► machine ─► actions ──┼─► nodes file (synced before a vote or a claim goes out)
//!                                                      └─► sockets
//! ```
//! Locks: shards → machine → links; the file's lock is held around a moment of the machine's. What takes effect is always what the machine
//! says at that moment, not what it said when somebody noticed; so it does not matter which thread comes first.

mod link;
mod settle;

use super::machine::node::LinkId;
use super::machine::{Action, Change, Machine, Settings, Surroundings};
use super::nodes_file::{self, NodesFile};
use crate::base::clock;
use crate::base::random::Random;
use crate::commands::error::CommandError;
use crate::engine::keyspace::ShardSet;
use crate::net::dial::{self, Dial};
use crate::net::direct::Direct;
use crate::net::stream::Stream;
use crate::net::tls::TlsStream;
use crate::server::config::Config;
use crate::server::role::LinkState;
use crate::server::{Server, Worker};
use link::Outgoing;
use parking_lot::Mutex;
use settle::Pending;
use std::collections::HashMap;
use std::future::poll_fn;
use std::net::TcpListener;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::task::Poll;
use std::time::Duration;
use tokio::runtime::Handle;

const TICK: Duration = Duration::from_millis(100);
/// Between two looks whether a replica has reached the end of its primary's stream.
const STREAM_LOOK: Duration = Duration::from_millis(1);
const BUS_PORT_STEP: u16 = 10_000;

/// Directives that the machine works by.
const FOLLOWED: &[&str] = &[
    "port",
    "tls-port",
    "tls-cluster",
    "repl-ping-replica-period",
    "cluster-node-timeout",
    "cluster-replica-validity-factor",
    "cluster-migration-barrier",
    "cluster-allow-replica-migration",
    "cluster-require-full-coverage",
    "cluster-replica-no-failover",
    "cluster-announce-ip",
    "cluster-announce-port",
    "cluster-announce-tls-port",
    "cluster-announce-bus-port",
    "cluster-announce-hostname",
];

pub struct Bus {
    server: &'static Server,
    machine: Mutex<Machine>,
    file: Mutex<NodesFile>,
    links: Mutex<HashMap<LinkId, Arc<Outgoing>>>,
    pending: Mutex<Pending>,
    /// Deletes keys of slots that are lost.
    worker: Mutex<Worker>,
    /// Of the bus's thread.
    runtime: OnceLock<Handle>,
}

static BUS: OnceLock<Bus> = OnceLock::new();

/// The node of this process; nothing if it is not in cluster mode.
pub fn bus() -> Option<&'static Bus> {
    BUS.get()
}

/// The port of the bus, as configured.
pub fn port(config: &Config) -> Result<u16, String> {
    let base = if config.tls_cluster { config.tls_port } else { config.port };
    match config.cluster_port {
        0 => base.checked_add(BUS_PORT_STEP).ok_or_else(|| {
            "Redis port number too high. Cluster communication port is 10,000 port numbers higher than your Redis port. Your \
             Redis port number must be 55535 or less."
                .to_owned()
        }),
        port => Ok(port),
    }
}

fn settings(config: &Config) -> Settings {
    let own = if config.tls_cluster { config.tls_port } else { config.port };
    let plain = if config.tls_cluster { config.port } else { 0 };
    let (port, plain_port) = match (config.tls_cluster, config.cluster_announce_tls_port, config.cluster_announce_port)
    {
        (true, 1.., announced) => (config.cluster_announce_tls_port, announced),
        (_, _, 0) => (own, plain),
        (_, _, announced) => (announced, plain),
    };
    let bus_port = match config.cluster_announce_bus_port {
        0 => self::port(config).unwrap_or(0),
        announced => announced,
    };
    Settings {
        node_timeout_ms: i64::try_from(config.cluster_node_timeout).unwrap_or(i64::MAX / 64).min(i64::MAX / 64),
        validity_factor: i64::from(config.cluster_replica_validity_factor),
        repl_ping_period_ms: i64::from(config.repl_ping_replica_period) * 1000,
        migration_barrier: config.cluster_migration_barrier as usize,
        allow_replica_migration: config.cluster_allow_replica_migration,
        require_full_coverage: config.cluster_require_full_coverage,
        no_failover: config.cluster_replica_no_failover,
        ip: config.cluster_announce_ip.clone().filter(|ip| !ip.is_empty()),
        port,
        plain_port,
        bus_port,
        hostname: config.cluster_announce_hostname.clone().unwrap_or_default(),
    }
}

fn surroundings(server: &Server) -> Surroundings {
    let (now_ms, link) = (clock::unix_ms(), server.role.link());
    let heard_ms = match link.state {
        LinkState::Connected => server.role.last_io_ms.load(Ordering::Relaxed),
        _ => link.down_since_ms.unwrap_or(0),
    };
    Surroundings {
        now_ms,
        offset: server.journal.end(),
        data_age_ms: now_ms - heard_ms,
        follows: link.primary.is_some(),
    }
}

impl Bus {
    /// Reads the node's file, or begins a new one. To be called before the data set is loaded, for a replica loads in another way.
    pub fn open(server: &'static Server) -> Result<&'static Bus, String> {
        let config = server.config.current();
        let path = &config.cluster_config_file;
        let file = NodesFile::open(path)?;
        let text = file.read().map_err(|error| format!("Loading the cluster node config from {path}: {error}"))?;
        let (settings, around, random) = (settings(&config), surroundings(server), Random::from_entropy());
        let machine = if text.is_empty() {
            let machine = Machine::new(settings, around, random);
            tracing::info!("No cluster configuration found, I'm {}", machine.me().name);
            machine
        } else {
            let machine = nodes_file::parse(&text, settings, around, random);
            let machine = machine.ok_or("Unrecoverable error: corrupted cluster config file.")?;
            tracing::info!("Node configuration loaded, I'm {}", machine.me().name);
            machine
        };
        let bus = Bus {
            server,
            machine: Mutex::new(machine),
            file: Mutex::new(file),
            links: Mutex::default(),
            pending: Mutex::default(),
            worker: Mutex::new(Worker::new(server)),
            runtime: OnceLock::new(),
        };
        let bus = BUS.get_or_init(|| bus);
        if text.is_empty() {
            bus.save(true);
        }
        bus.input(|machine| machine.configure(self::settings(&config)));
        server.config.on_changed(FOLLOWED, Box::new(|_, new| bus.follow_config(new)));
        Ok(bus)
    }

    /// Starts the bus's thread. To be called when the data set is there.
    pub fn start(&'static self, listeners: Vec<TcpListener>) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        let _ = self.runtime.set(runtime.handle().clone());
        self.adopt();
        let run = move || runtime.block_on(self.run(listeners));
        std::thread::Builder::new().name("cluster".into()).spawn(run).map(drop).map_err(|error| error.to_string())
    }

    async fn run(&'static self, listeners: Vec<TcpListener>) {
        for listener in listeners {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => drop(tokio::spawn(self.accept(listener))),
                Err(error) => tracing::warn!("The cluster bus does not listen: {error}"),
            }
        }
        tokio::spawn(self.send_publications());
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if !self.server.cron_paused.load(Ordering::Relaxed) {
                self.close_overfull();
                self.input(Machine::tick);
            }
            while self.machine.lock().awaits_stream() {
                tokio::time::sleep(STREAM_LOOK).await;
                self.input(Machine::look_at_stream);
            }
        }
    }

    /// CONFIG SET shows at once. Whoever sets it may hold shards, so what needs them follows with the next tick.
    fn follow_config(&self, config: &Config) {
        let actions = {
            let mut machine = self.machine.lock();
            machine.begin(surroundings(self.server));
            machine.configure(settings(config));
            machine.finish()
        };
        let rest = self.pending.lock().take_from(actions);
        self.perform_rest(rest);
    }

    /// Something happens to the machine; what follows from it is done.
    pub fn input<T>(&self, input: impl FnOnce(&mut Machine) -> T) -> T {
        // Waits out a DEBUG SLEEP, as everything else does.
        drop(self.server.standstill.lock());
        let (result, actions) = {
            let mut machine = self.machine.lock();
            machine.begin(surroundings(self.server));
            let result = input(&mut machine);
            (result, machine.finish())
        };
        self.perform(actions);
        result
    }

    /// A look at the machine.
    pub fn look<T>(&self, look: impl FnOnce(&mut Machine) -> T) -> T {
        let mut machine = self.machine.lock();
        machine.begin(surroundings(self.server));
        look(&mut machine)
    }

    /// Bytes that wait on a link.
    pub fn waiting_bytes(&self, link: LinkId) -> usize {
        self.links.lock().get(&link).map_or(0, |outgoing| outgoing.len())
    }

    /// A change by an operator, with every shard locked so that the keys that it depends on stay. The status to answer.
    pub fn change(&'static self, change: &Change) -> Result<String, CommandError> {
        let server = self.server;
        let locked = server.lock(ShardSet::ALL);
        let mut locked = locked.ok_or_else(|| server.scripts.running.busy_error())?;
        let (answer, actions) = {
            let mut machine = self.machine.lock();
            machine.begin(surroundings(server));
            let answer = machine.change(change, &|slot| settle::count_keys(&locked, slot));
            (answer, machine.finish())
        };
        let rest = self.pending.lock().take_from(actions);
        self.settle_locked(&mut locked);
        drop(locked);
        self.perform(rest);
        answer
    }

    fn perform(&self, actions: Vec<Action>) {
        let rest = self.pending.lock().take_from(actions);
        self.settle();
        self.perform_rest(rest);
    }

    fn perform_rest(&self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Save { sync } => self.save(sync),
                Action::Connect { link, ip, port } => self.connect(link, ip, port),
                Action::Close(link) => {
                    if let Some(outgoing) = self.links.lock().remove(&link) {
                        outgoing.close();
                    }
                }
                Action::Send { link, bytes } => {
                    if let Some(outgoing) = self.links.lock().get(&link) {
                        outgoing.send(bytes);
                    }
                }
                Action::Deliver { channel, message, is_sharded } => {
                    if is_sharded {
                        self.server.publish_shard(&channel, &message);
                    } else {
                        self.server.publish(&channel, &message);
                    }
                }
                // `Pending` has them.
                Action::Follow { .. }
                | Action::Promote
                | Action::Flush
                | Action::Publish
                | Action::DropKeys(_)
                | Action::DropChannels(_)
                | Action::Pause { .. }
                | Action::Unpause => {}
            }
        }
    }

    /// Writes the file. A node that cannot keep its promises must not make any.
    fn save(&self, sync: bool) {
        let file = self.file.lock();
        let text = nodes_file::text(&self.machine.lock());
        if let Err(error) = file.write(&text, sync) {
            tracing::warn!("Fatal: can't update cluster config file: {error}");
            std::process::exit(1);
        }
    }

    /// CLUSTER SAVECONFIG, whose failure is the operator's to hear.
    pub fn try_save(&self) -> Result<(), CommandError> {
        let file = self.file.lock();
        let text = nodes_file::text(&self.machine.lock());
        file.write(&text, true)
            .map_err(|error| CommandError::new(format!("ERR error saving the cluster node config: {error}")))
    }

    fn connect(&self, id: LinkId, ip: String, port: u16) {
        let (Some(runtime), Some(bus)) = (self.runtime.get(), bus()) else { return };
        let outgoing = Arc::new(Outgoing::default());
        self.links.lock().insert(id, Arc::clone(&outgoing));
        runtime.spawn(async move {
            match bus.dial(&ip, port).await {
                Ok(stream) if !outgoing.is_closed() => {
                    bus.input(|machine| machine.connected(id));
                    link::serve(bus, id, stream, &outgoing).await;
                }
                Ok(_) => {}
                Err(error) => tracing::debug!("Connection with the node at {ip}:{port} failed: {error}"),
            }
            bus.end(id);
        });
    }

    async fn dial(&self, ip: &str, port: u16) -> std::io::Result<Stream> {
        let config = self.server.config.current();
        let source = config.bind_source_addr.as_ref().and_then(|source| source.parse().ok());
        let timeout = Duration::from_millis(config.cluster_node_timeout.clamp(100, 60_000));
        let dial = Dial { source, timeout };
        match self.server.tls.client().filter(|_| config.tls_cluster) {
            Some(tls) => dial::tls(ip, port, &dial, tls).await,
            None => dial::tcp(ip, port, &dial).await,
        }
    }

    fn end(&self, id: LinkId) {
        self.links.lock().remove(&id);
        self.input(|machine| machine.closed(id));
    }

    async fn accept(&'static self, listener: tokio::net::TcpListener) {
        loop {
            let Ok((stream, peer)) = listener.accept().await else {
                tokio::time::sleep(TICK).await;
                continue;
            };
            // An option only.
            let _ = stream.set_nodelay(true);
            let local_ip = stream.local_addr().map(|address| address.ip().to_canonical().to_string());
            let peer_ip = peer.ip().to_canonical().to_string();
            tokio::spawn(async move {
                let Ok(stream) = self.greet(stream).await else { return };
                let id = self.input(|machine| machine.accepted(peer_ip, local_ip.unwrap_or_default()));
                let outgoing = Arc::new(Outgoing::default());
                self.links.lock().insert(id, Arc::clone(&outgoing));
                link::serve(self, id, stream, &outgoing).await;
                self.end(id);
            });
        }
    }

    async fn greet(&self, stream: tokio::net::TcpStream) -> std::io::Result<Stream> {
        match self.server.tls.server().filter(|_| self.server.config.current().tls_cluster) {
            Some(tls) => Ok(Stream::Tls(TlsStream::accept(stream, tls).await?)),
            None => Ok(Stream::Tcp(Direct(stream))),
        }
    }

    /// Sends what clients publish on to the other nodes.
    async fn send_publications(&'static self) {
        loop {
            let publications = poll_fn(|context| {
                let publications = self.server.slots.take_publications(context);
                if publications.is_empty() { Poll::Pending } else { Poll::Ready(publications) }
            })
            .await;
            self.input(|machine| {
                for publication in publications {
                    machine.publish(&publication.channel, &publication.message, publication.is_sharded);
                }
            });
        }
    }

    /// Links on which too much waits end (cluster-link-sendbuf-limit).
    fn close_overfull(&self) {
        let limit = self.server.config.current().cluster_link_sendbuf_limit;
        let links = self.links.lock();
        let total: usize = links.values().map(|outgoing| outgoing.len() + size_of::<Outgoing>()).sum();
        let overfull: Vec<LinkId> = links
            .iter()
            .filter(|(_, outgoing)| limit > 0 && outgoing.len() as u64 > limit)
            .map(|(id, _)| *id)
            .collect();
        self.server.slots.link_bytes.store(total as u64, Ordering::Relaxed);
        self.server.slots.connections.store(links.len() as u64, Ordering::Relaxed);
        drop(links);
        for id in overfull {
            tracing::warn!("Freeing cluster link {id} due to exceeding send buffer memory limit.");
            self.input(|machine| machine.close_overfull(id));
        }
    }
}
