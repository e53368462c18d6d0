//! The workers: one thread and one current-thread runtime each. Accepted sockets are dealt out in turn, so that
//! connections spread evenly (SO_REUSEPORT alone does not).

use super::busy;
use super::connection::{self, Shared};
use super::parking;
use crate::server::clients::Client;
use crate::server::{Server, Worker};
use std::rc::Rc;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A socket on its way to the worker that will serve it.
pub enum Accepted {
    Tcp(std::net::TcpStream, Arc<Client>),
    Unix(std::os::unix::net::UnixStream, Arc<Client>),
    /// Its handshake is still to come.
    Tls(std::net::TcpStream, Arc<Client>),
}

/// As a process's main thread has: Lua's cjson and cmsgpack recurse on what scripts give them, up to a thousand levels.
const STACK: usize = 8 << 20;

pub struct Pool {
    workers: Vec<mpsc::UnboundedSender<Accepted>>,
    next: std::sync::atomic::AtomicUsize,
}

impl Pool {
    /// Starts the threads.
    pub fn start(server: &'static Server, workers: usize) -> std::io::Result<Self> {
        let mut senders = Vec::with_capacity(workers);
        for index in 0..workers {
            let (sender, receiver) = mpsc::unbounded_channel();
            let thread = std::thread::Builder::new().name(format!("worker-{index}")).stack_size(STACK);
            thread.spawn(move || run(server, receiver))?;
            senders.push(sender);
        }
        Ok(Pool { workers: senders, next: std::sync::atomic::AtomicUsize::new(0) })
    }

    /// Gives a socket to the next worker in turn.
    pub fn deal(&self, accepted: Accepted) {
        let index = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % self.workers.len();
        // A worker ends only with the process.
        let _ = self.workers[index].send(accepted);
    }
}

fn run(server: &'static Server, receiver: mpsc::UnboundedReceiver<Accepted>) {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = match builder.enable_all().event_interval(61).on_thread_park(parking::before_sleep).build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("Cannot start a worker: {error}");
            std::process::exit(1);
        }
    };
    let shared = Rc::new(Shared::new(Worker::new(server), receiver));
    busy::remember(&shared);
    tokio::task::LocalSet::new().block_on(&runtime, async move {
        while let Some(accepted) = shared.next_arrival().await {
            connection::start(&shared, accepted);
        }
    });
}
