//! The listening sockets in use. CONFIG SET may open others at run time (`port`, `tls-port`, `bind`): they are bound before the
//! setting counts, and where that fails the old ones are back before the client has its error.

use super::listener::{self, Transport};
use super::pool::Pool;
use crate::server::Server;
use crate::server::config::Config;
use parking_lot::Mutex;
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::task::AbortHandle;

pub struct Ports {
    server: &'static Server,
    pool: Arc<Pool>,
    /// Of the main thread, which accepts.
    runtime: Handle,
    tcp: Mutex<Open>,
    tls: Mutex<Open>,
}

/// The sockets of one port.
#[derive(Default)]
struct Open {
    port: u16,
    addresses: Vec<String>,
    /// Held for as long as they are to accept.
    sockets: Vec<Accepting>,
}

/// A listening socket and the task that accepts from it.
struct Accepting {
    socket: TcpListener,
    task: AbortHandle,
}

impl Drop for Accepting {
    /// The task ends some time later, on its own thread; the address must be free now.
    fn drop(&mut self) {
        // Fails only if it does not listen any more.
        let _ = socket2::SockRef::from(&self.socket).shutdown(Shutdown::Both);
        self.task.abort();
    }
}

impl Ports {
    /// Opens the configured ports and sees to it that CONFIG SET moves them. To be called on the thread that shall accept.
    pub fn open(server: &'static Server, pool: Arc<Pool>) -> Result<Arc<Ports>, String> {
        let ports =
            Arc::new(Ports { server, pool, runtime: Handle::current(), tcp: Mutex::default(), tls: Mutex::default() });
        let config = server.config.current();
        for (open, port, transport) in ports.wanted(&config) {
            ports.move_to(open, &config, port, transport).map_err(|reason| {
                tracing::warn!("Failed listening on port {port} (tcp), aborting.");
                format!("{reason}\n")
            })?;
        }
        let is_silent = ports.wanted(&config).iter().all(|(open, _, _)| open.lock().sockets.is_empty());
        if is_silent && config.unixsocket.is_none() {
            tracing::warn!("Configured to not listen anywhere, exiting.");
            return Err("Configured to not listen anywhere, exiting.\n".into());
        }
        let unable = |_| "Unable to listen on this port. Check server logs.".to_owned();
        let tcp = Arc::clone(&ports);
        server.config.on_apply(
            &["port"],
            Box::new(move |_, new| tcp.move_to(&tcp.tcp, new, new.port, Transport::Plain).map_err(unable)),
        );
        let tls = Arc::clone(&ports);
        server.config.on_apply(
            &["tls-port"],
            Box::new(move |_, new| tls.move_to(&tls.tls, new, new.tls_port, Transport::Tls).map_err(unable)),
        );
        let all = Arc::clone(&ports);
        server.config.on_apply(&["bind"], Box::new(move |_, new| all.rebind(new)));
        Ok(ports)
    }

    /// Nobody gets in any more: whoever sees his connection end with the process must not be let in once more.
    pub fn close(&self) {
        *self.tcp.lock() = Open::default();
        *self.tls.lock() = Open::default();
    }

    fn wanted(&self, config: &Config) -> [(&Mutex<Open>, u16, Transport); 2] {
        [(&self.tcp, config.port, Transport::Plain), (&self.tls, config.tls_port, Transport::Tls)]
    }

    /// Everything on other addresses. The old sockets go first: `*` and one address cannot have the same port side by side.
    fn rebind(&self, config: &Config) -> Result<(), String> {
        for (open, port, transport) in self.wanted(config) {
            let same = {
                let open = open.lock();
                open.port == port && open.addresses == config.bind.0
            };
            if !same {
                *open.lock() = Open::default();
                self.move_to(open, config, port, transport)
                    .map_err(|_| "Failed to bind to specified addresses.".to_owned())?;
            }
        }
        Ok(())
    }

    /// Another port, bound before the old one goes; 0 closes. Where these sockets are there already, nothing happens: so it is
    /// called again to undo a change that failed before it had done anything.
    fn move_to(&self, open: &Mutex<Open>, config: &Config, port: u16, transport: Transport) -> Result<(), String> {
        let mut open = open.lock();
        let addresses = &config.bind.0;
        if open.port == port && (open.addresses == *addresses || port == 0) {
            return Ok(());
        }
        let bound = if port == 0 { Vec::new() } else { listener::bind(config, port)? };
        let sockets = bound.into_iter().map(|socket| self.accept(socket, transport)).collect::<Result<_, _>>()?;
        *open = Open { port, addresses: addresses.clone(), sockets };
        Ok(())
    }

    fn accept(&self, socket: TcpListener, transport: Transport) -> Result<Accepting, String> {
        let own = socket.try_clone().map_err(|error| error.to_string())?;
        let task = self.runtime.spawn(listener::accept(self.server, Arc::clone(&self.pool), own, transport));
        Ok(Accepting { socket, task: task.abort_handle() })
    }
}
