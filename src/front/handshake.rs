//! TLS handshakes of one worker. They cost a thousand times what a command costs, so established clients come first:
//!
//! ```text
//!   round of the event loop:   │ every task that is ready │ one step of one handshake │ every task that is ready │ …
//! ```
//! A step takes the only turn there is and gives it back after everything else that was ready has run.

use crate::net::stream::Stream;
use crate::net::tls::TlsStream;
use crate::server::Server;
use crate::server::clients::Client;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// A client that has not said its part by then is let go.
const HANDSHAKE_SECONDS_MAX: u64 = 10;
/// The first byte of every handshake.
const HANDSHAKE_RECORD: u8 = 22;

pub struct Handshakes(Arc<Semaphore>);

impl Default for Handshakes {
    fn default() -> Self {
        Handshakes(Arc::new(Semaphore::new(1)))
    }
}

impl Handshakes {
    /// The whole handshake of one accepted socket.
    pub async fn run(
        &self,
        server: &'static Server,
        stream: std::net::TcpStream,
        client: &Client,
    ) -> io::Result<Stream> {
        let context = server.tls.server().ok_or_else(|| io::Error::other("TLS is not configured"))?;
        let stream = TcpStream::from_std(stream)?;
        let handshake = async {
            // Who does not speak TLS at all would not understand an alert either: the connection just ends.
            let mut first = [0];
            if stream.peek(&mut first).await? == 0 || first[0] != HANDSHAKE_RECORD {
                return Err(io::ErrorKind::InvalidData.into());
            }
            self.in_turns(TlsStream::accept(stream, context)).await
        };
        let killed = poll_fn(|context| {
            client.register(context.waker());
            if client.is_killed() { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            done = tokio::time::timeout(Duration::from_secs(HANDSHAKE_SECONDS_MAX), handshake) => {
                Ok(Stream::Tls(done.map_err(|_| io::ErrorKind::TimedOut)??))
            }
            () = killed => Err(io::ErrorKind::ConnectionAborted.into()),
        }
    }

    async fn in_turns<T>(&self, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        let mut work = pin!(work);
        loop {
            // Closed never.
            let turn = Arc::clone(&self.0).acquire_owned().await.map_err(io::Error::other)?;
            let step = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
            tokio::task::spawn_local(async move {
                tokio::task::yield_now().await;
                drop(turn);
            });
            match step {
                Poll::Ready(result) => return result,
                Poll::Pending => woken().await,
            }
        }
    }
}

/// Waits for the next wake of the task, which the step before has arranged. Nothing may be awaited in between.
async fn woken() {
    let mut is_first = true;
    poll_fn(|_| if std::mem::take(&mut is_first) { Poll::Pending } else { Poll::Ready(()) }).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::rc::Rc;

    #[test]
    fn others_run_between_two_steps() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let order = Rc::new(RefCell::new(Vec::new()));
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let handshakes = Rc::new(Handshakes::default());
            let mut tasks = Vec::new();
            for _ in 0..3 {
                let (handshakes, order) = (Rc::clone(&handshakes), Rc::clone(&order));
                tasks.push(tokio::task::spawn_local(async move {
                    let work = async {
                        order.borrow_mut().push('h');
                        tokio::task::yield_now().await;
                        order.borrow_mut().push('h');
                        Ok(())
                    };
                    handshakes.in_turns(work).await.expect("done");
                }));
            }
            let others = Rc::clone(&order);
            tasks.push(tokio::task::spawn_local(async move {
                for _ in 0..8 {
                    others.borrow_mut().push('c');
                    tokio::task::yield_now().await;
                }
            }));
            for task in tasks {
                task.await.expect("no panic");
            }
        });
        let order: String = order.borrow().iter().collect();
        assert_eq!(order.matches('h').count(), 6, "{order}");
        assert!(!order.contains("hh") || order.find("hh") > order.rfind('c'), "{order}");
    }
}
