//! Host names, looked up without stopping the sentinel: what was found is used at once and looked up anew behind the scenes, so that
//! a slow name server costs nobody a failover. A name that is met for the first time is waited for, but not for long: until the
//! answer is there it counts as unknown.

use super::address::Names;
use crate::base::clock::Timer;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

const FRESH: Duration = Duration::from_secs(1);
/// Well below the time after which a sentinel that stands still calls it TILT.
const PATIENCE: Duration = Duration::from_millis(500);
/// Anybody may ask for any name; what nobody needs is forgotten.
const NAMES_MAX: usize = 1024;

struct Known {
    ip: Option<String>,
    found: Timer,
    is_asking: bool,
}

#[derive(Clone, Default)]
pub struct SystemNames(Arc<Mutex<HashMap<String, Known>>>);

impl SystemNames {
    /// Asks on another thread; whoever waits hears the answer first. False if no thread is to be had.
    fn ask(&self, host: &str, listener: Option<mpsc::Sender<Option<String>>>) -> bool {
        let (names, host) = (self.clone(), host.to_owned());
        let look_up = move || {
            let found = (host.as_str(), 0).to_socket_addrs().ok().and_then(|mut found| found.next());
            let ip = found.map(|address| address.ip().to_string());
            names.0.lock().insert(host, Known { ip: ip.clone(), found: Timer::start(), is_asking: false });
            // He may have given up.
            let _ = listener.map(|listener| listener.send(ip));
        };
        std::thread::Builder::new().name("names".into()).spawn(look_up).is_ok()
    }
}

impl Names for SystemNames {
    fn resolve(&self, host: &str) -> Option<String> {
        {
            let mut names = self.0.lock();
            if let Some(known) = names.get_mut(host) {
                if known.found.elapsed() > FRESH && !known.is_asking {
                    known.is_asking = self.ask(host, None);
                }
                return known.ip.clone();
            }
            if names.len() >= NAMES_MAX {
                names.clear();
            }
            names.insert(host.to_owned(), Known { ip: None, found: Timer::start(), is_asking: true });
        }
        let (sender, receiver) = mpsc::channel();
        if !self.ask(host, Some(sender)) {
            self.0.lock().remove(host);
        }
        receiver.recv_timeout(PATIENCE).ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_and_remembered() {
        let names = SystemNames::default();
        let found = names.resolve("localhost").expect("every machine knows it");
        assert!(["127.0.0.1", "::1"].contains(&found.as_str()), "{found}");
        assert_eq!(names.resolve("localhost"), Some(found));
        (0..NAMES_MAX).for_each(|number| {
            names.0.lock().insert(number.to_string(), Known { ip: None, found: Timer::start(), is_asking: true });
        });
        assert_eq!(names.resolve("7"), None);
        names.resolve("localhost.localdomain.invalid");
        assert!(names.0.lock().len() < NAMES_MAX);
    }
}
