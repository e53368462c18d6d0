//! The workers: one thread and one current-thread runtime each. Accepted sockets are dealt out in turn, so that
//! connections spread evenly (SO_REUSEPORT alone does not); later they move when the number of active workers changes.

use super::busy;
use super::connection::{self, Shared, Turns};
use super::parking;
use crate::base::processors;
use crate::net::tls;
use crate::server::clients::Client;
use crate::server::workers::Workers;
use crate::server::{Server, Session, Worker};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A socket on its way to the worker that will serve it.
pub enum Accepted {
    /// Nothing: somebody wants to know when the worker has run what it had received before.
    Turn(Arc<Turns>),
    /// With the session that another worker has begun.
    Moved(Socket, Box<Session>),
    Tcp(std::net::TcpStream, Arc<Client>),
    Unix(std::os::unix::net::UnixStream, Arc<Client>),
    /// Its handshake is still to come.
    Tls(std::net::TcpStream, Arc<Client>),
}

/// A socket that no event loop watches.
pub enum Socket {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    Tls(std::net::TcpStream, Box<tls::Session>),
}

/// As a process's main thread has: Lua's cjson and cmsgpack recurse on what scripts give them, up to a thousand levels.
const STACK: usize = 8 << 20;

pub struct Pool {
    server: &'static Server,
    workers: Vec<mpsc::UnboundedSender<Accepted>>,
}

impl Pool {
    /// Starts the threads.
    pub fn start(server: &'static Server) -> std::io::Result<Arc<Self>> {
        let (workers, receivers): (Vec<_>, Vec<_>) =
            server.workers.loads().iter().map(|_| mpsc::unbounded_channel()).unzip();
        let pool = Arc::new(Pool { server, workers });
        for (index, receiver) in receivers.into_iter().enumerate() {
            let pool = Arc::clone(&pool);
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).stack_size(STACK);
            thread.spawn(move || run(pool, index, receiver))?;
        }
        Ok(pool)
    }

    /// Asks every worker but one for a turn.
    pub fn ask_for_turns(&self, asker: usize, turns: &Arc<Turns>) {
        for (_, worker) in self.workers.iter().enumerate().filter(|(index, _)| *index != asker) {
            // A worker ends only with the process.
            let _ = worker.send(Accepted::Turn(Arc::clone(turns)));
        }
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Gives a socket to the worker that its client belongs to.
    pub fn deal(&self, accepted: Accepted) {
        let client = match &accepted {
            Accepted::Tcp(_, client) | Accepted::Unix(_, client) | Accepted::Tls(_, client) => client.id,
            Accepted::Moved(_, session) => session.client.id,
            Accepted::Turn(_) => return,
        };
        // A worker ends only with the process.
        let _ = self.workers[Workers::home(client, self.server.workers.active())].send(accepted);
    }
}

fn run(pool: Arc<Pool>, index: usize, receiver: mpsc::UnboundedReceiver<Accepted>) {
    let server = pool.server;
    let _member = processors::join(processors::Kind::Worker);
    parking::begin(server, index);
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().event_interval(61);
    builder.on_thread_park(parking::before_sleep).on_thread_unpark(parking::after_sleep);
    let runtime = match builder.build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("Cannot start a worker: {error}");
            std::process::exit(1);
        }
    };
    let shared = Rc::new(Shared::new(Worker::new(server), pool, index, receiver));
    busy::remember(&shared);
    let turn = Rc::clone(&shared);
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        tokio::task::spawn_local(async move { turn.sync_turn.run().await });
        while let Some(accepted) = shared.next_arrival().await {
            connection::start(&shared, accepted);
        }
    });
}
