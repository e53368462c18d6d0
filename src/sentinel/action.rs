//! What the machine wants done, in this order: the service does it without looking into it.

use super::instance::ConnId;

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Verbose,
    Notice,
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Opens a connection; what is sent on it meanwhile waits.
    Connect {
        conn: ConnId,
        ip: String,
        port: u16,
    },
    Send {
        conn: ConnId,
        bytes: Vec<u8>,
    },
    Close {
        conn: ConnId,
    },
    /// A line of the log only.
    Log {
        level: Level,
        text: String,
    },
    /// A line of the log, and a message to the channel of that name unless it is for debugging.
    Event {
        level: Level,
        channel: &'static str,
        message: String,
    },
    /// Brings the file in line with the state, and syncs it, before anything that follows.
    Persist,
    RunScript {
        job: u64,
        words: Vec<Vec<u8>>,
    },
    KillScript {
        job: u64,
    },
    /// SIMULATE-FAILURE: the process ends on the spot.
    Crash,
}
