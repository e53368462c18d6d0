//! A TCP proxy that can cut, stall and refuse: the network of the replication and client tests.
//!
//! ```text
//! client ──► proxy port ──► target port        cut: both ends closed; stall: bytes wait; refuse: new links closed
//! ```

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Default)]
struct State {
    stalled: AtomicBool,
    refusing: AtomicBool,
    closed: AtomicBool,
    accepted: AtomicU64,
    /// Bytes that may still pass before the link is cut; `u64::MAX` means no limit.
    budget: AtomicU64,
    links: Mutex<Vec<TcpStream>>,
}

pub struct Proxy {
    port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub fn start(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::new(State { budget: AtomicU64::new(u64::MAX), ..State::default() });
        let shared = state.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if shared.closed.load(Ordering::Relaxed) {
                    break;
                }
                shared.accepted.fetch_add(1, Ordering::Relaxed);
                if !shared.refusing.load(Ordering::Relaxed) {
                    connect(client, target, &shared);
                }
            }
        });
        Proxy { port, state }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Links accepted since the start, refused ones included.
    pub fn accepted(&self) -> u64 {
        self.state.accepted.load(Ordering::Relaxed)
    }

    /// Closes every link; new ones are accepted.
    pub fn cut(&self) {
        for link in self.state.links.lock().expect("no panic holds it").drain(..) {
            link.shutdown(Shutdown::Both).ok();
        }
    }

    /// Cuts all links once this many further bytes have passed, in the middle of whatever they are.
    pub fn cut_after(&self, bytes: u64) {
        self.state.budget.store(bytes, Ordering::Relaxed);
    }

    /// No byte passes until `resume`; the links stay open.
    pub fn stall(&self) {
        self.state.stalled.store(true, Ordering::Relaxed);
    }

    pub fn resume(&self) {
        self.state.stalled.store(false, Ordering::Relaxed);
    }

    /// Cuts every link and closes new ones at once, until `admit`.
    pub fn refuse(&self) {
        self.state.refusing.store(true, Ordering::Relaxed);
        self.cut();
    }

    pub fn admit(&self) {
        self.state.refusing.store(false, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::Relaxed);
        self.resume();
        self.cut();
        // Wakes the accepting thread, which then sees `closed`.
        TcpStream::connect(("127.0.0.1", self.port)).ok();
    }
}

fn connect(client: TcpStream, target: u16, state: &Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    for (from, to) in [(&client, &server), (&server, &client)] {
        let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
        let state = state.clone();
        std::thread::spawn(move || pump(from, to, &state));
    }
    state.links.lock().expect("no panic holds it").extend([client, server]);
}

fn pump(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk) {
        while state.stalled.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let budget = state.budget.load(Ordering::Relaxed);
        let passing = count.min(usize::try_from(budget).unwrap_or(usize::MAX));
        if to.write_all(&chunk[..passing]).is_err() {
            break;
        }
        if budget != u64::MAX {
            state.budget.fetch_sub(passing as u64, Ordering::Relaxed);
            if passing as u64 == budget {
                state.budget.store(u64::MAX, Ordering::Relaxed);
                break;
            }
        }
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}
