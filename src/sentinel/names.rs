//! Host names, looked up without stopping the sentinel: what was found is used at once and looked up anew behind the scenes, so that
//! a slow name server costs nobody a failover. Only a name that is met for the first time is waited for.

use super::address::Names;
use crate::base::clock::Timer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Duration;

const FRESH: Duration = Duration::from_secs(1);

struct Known {
    ip: Option<String>,
    found: Timer,
    is_asking: bool,
}

#[derive(Clone, Default)]
pub struct SystemNames(Arc<Mutex<HashMap<String, Known>>>);

fn look_up(host: &str) -> Option<String> {
    (host, 0).to_socket_addrs().ok()?.next().map(|address| address.ip().to_string())
}

impl SystemNames {
    fn note(&self, host: String, ip: Option<String>) {
        self.0.lock().insert(host, Known { ip, found: Timer::start(), is_asking: false });
    }
}

impl Names for SystemNames {
    fn resolve(&self, host: &str) -> Option<String> {
        if let Some(known) = self.0.lock().get_mut(host) {
            if known.found.elapsed() > FRESH && !known.is_asking {
                known.is_asking = true;
                let (names, host) = (self.clone(), host.to_owned());
                // Without a thread the next question tries again.
                let started = std::thread::Builder::new().name("names".into()).spawn(move || {
                    let ip = look_up(&host);
                    names.note(host, ip);
                });
                known.is_asking = started.is_ok();
            }
            return known.ip.clone();
        }
        let ip = look_up(host);
        self.note(host.to_owned(), ip.clone());
        ip
    }
}
