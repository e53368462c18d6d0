//! CLIENT PAUSE and the pauses that failover and shutdown need: commands wait, nobody is refused.
//!
//! A worker learns of a pause through its settings: with its next batch, and before each command under the locks of that command. So
//! a pause that is declared under every lock is exact: what is answered before is done, nothing that it holds back runs after.
//! A paused session keeps its command and stops; when the pause is over, or its end has come, its task is woken and runs it.

use super::clients::Client;
use super::state::Server;
use parking_lot::Mutex;
use std::sync::Arc;

/// Why clients are paused; each reason ends for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Command,
    Shutdown,
    Failover,
    /// A replica has begun to load its primary's data. What the load refuses waits a moment: most loads are short.
    Load,
}

/// Which commands wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PauseMode {
    #[default]
    None,
    /// Those that may change data or go to replicas.
    Writes,
    All,
}

/// The strictest pause in effect and its end (milliseconds since the epoch).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pause {
    pub mode: PauseMode,
    pub until_ms: i64,
}

const PURPOSES: usize = 4;

#[derive(Default)]
pub struct Pauses {
    /// By `Purpose as usize`.
    by_purpose: Mutex<[Pause; PURPOSES]>,
    waiting: Mutex<Vec<Arc<Client>>>,
}

impl Pauses {
    /// What is in effect at a time.
    pub fn at(&self, now_ms: i64) -> Pause {
        strictest(&*self.by_purpose.lock(), now_ms)
    }

    /// Whether clients are paused for a purpose.
    pub fn is_for(&self, purpose: Purpose, now_ms: i64) -> bool {
        let pause = self.by_purpose.lock()[purpose as usize];
        pause.mode != PauseMode::None && pause.until_ms > now_ms
    }

    /// A postponed client, to be woken when a pause ends.
    pub fn wait(&self, client: &Arc<Client>) {
        self.waiting.lock().push(Arc::clone(client));
    }

    pub fn forget(&self, client: &Client) {
        self.waiting.lock().retain(|other| other.id != client.id);
    }
}

fn strictest(pauses: &[Pause], now_ms: i64) -> Pause {
    let current = pauses.iter().filter(|pause| pause.mode != PauseMode::None && pause.until_ms > now_ms);
    current.copied().max_by_key(|pause| (pause.mode, pause.until_ms)).unwrap_or_default()
}

impl Server {
    /// Pauses clients, or makes a pause longer and stricter.
    pub fn pause_clients(&self, purpose: Purpose, mode: PauseMode, until_ms: i64, now_ms: i64) {
        let mut pauses = self.pauses.by_purpose.lock();
        let pause = &mut pauses[purpose as usize];
        if pause.until_ms <= now_ms {
            *pause = Pause::default();
        }
        *pause = Pause { mode: pause.mode.max(mode), until_ms: pause.until_ms.max(until_ms) };
        drop(pauses);
        self.renew_settings();
    }

    /// Ends the pause of one purpose; who waited tries again, and waits again if another pause is still on.
    pub fn unpause_clients(&self, purpose: Purpose) {
        self.pauses.by_purpose.lock()[purpose as usize] = Pause::default();
        self.renew_settings();
        for client in self.pauses.waiting.lock().iter() {
            client.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_strictest_pause_counts_until_it_ends() {
        let pauses = [
            Pause { mode: PauseMode::All, until_ms: 10 },
            Pause::default(),
            Pause { mode: PauseMode::Writes, until_ms: 20 },
        ];
        assert_eq!(strictest(&pauses, 5).mode, PauseMode::All);
        assert_eq!(strictest(&pauses, 10), Pause { mode: PauseMode::Writes, until_ms: 20 });
        assert_eq!(strictest(&pauses, 20).mode, PauseMode::None);
    }
}
