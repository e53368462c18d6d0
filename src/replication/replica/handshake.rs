//! From a connection to the primary's verdict.
//!
//! ```text
//!   Greeting ── PING ─► Introduction ── AUTH, REPLCONF listening-port, ip-address, capa ─► Question ── PSYNC ─► Verdict
//!                 ▲ NOAUTH is fine here               ▲ refusals of REPLCONF are fine                │
//!                                                                          Continue · Full · Later · Unsupported
//! ```
//! Each state is a type that holds the link and can only become the next one.

use super::wire::Wire;
use crate::server::Server;
use crate::server::config::Config;
use std::io;
use std::time::Duration;

/// The link failed, or the primary said something that ends it; the log says what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

/// What PSYNC asks to go on from: a history and the offset behind the last byte that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub known: Option<(String, u64)>,
    /// The primary is to take over from us.
    pub hands_over: bool,
}

/// The primary's answer to PSYNC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The stream goes on; the history may have another name by now.
    Continue(Option<String>),
    /// A snapshot follows, taken at an offset of a history.
    Full { replid: String, offset: u64 },
    /// Not now.
    Later,
    /// It knows no PSYNC: SYNC remains.
    Unsupported,
}

pub struct Greeting<'a>(pub &'a mut Wire);
pub struct Introduction<'a>(&'a mut Wire);
pub struct Question<'a>(&'a mut Wire);

impl<'a> Greeting<'a> {
    /// Checks that the primary answers at all.
    pub async fn ping(self) -> Result<Introduction<'a>, Failed> {
        send(self.0, &[b"PING"]).await?;
        let answer = answer(self.0).await?;
        let wants_login = ["-NOAUTH", "-NOPERM", "-ERR operation not permitted"];
        if !answer.starts_with('+') && !wants_login.iter().any(|start| answer.starts_with(start)) {
            tracing::warn!("Error reply to PING from master: '{answer}'");
            return Err(Failed);
        }
        tracing::info!("Master replied to PING, replication can continue...");
        Ok(Introduction(self.0))
    }
}

impl<'a> Introduction<'a> {
    /// Logs in and tells the primary what this replica is called and can do.
    pub async fn introduce(self, config: &Config) -> Result<Question<'a>, Failed> {
        let wire = self.0;
        let port = if config.replica_announce_port != 0 { config.replica_announce_port } else { config.port };
        let port = port.to_string();
        if let Some(password) = &config.masterauth {
            match &config.masteruser {
                Some(user) => send(wire, &[b"AUTH", user.as_bytes(), password]).await?,
                None => send(wire, &[b"AUTH", password]).await?,
            }
        }
        send(wire, &[b"REPLCONF", b"listening-port", port.as_bytes()]).await?;
        if let Some(ip) = &config.replica_announce_ip {
            send(wire, &[b"REPLCONF", b"ip-address", ip.as_bytes()]).await?;
        }
        send(wire, &[b"REPLCONF", b"capa", b"eof", b"capa", b"psync2"]).await?;
        if config.masterauth.is_some() {
            let answer = answer(wire).await?;
            if answer.starts_with('-') {
                tracing::warn!("Unable to AUTH to MASTER: {answer}");
                return Err(Failed);
            }
        }
        let ip = config.replica_announce_ip.as_ref().map(|_| "ip-address");
        for what in ["listening-port"].into_iter().chain(ip).chain(["capa"]) {
            let answer = answer(wire).await?;
            if answer.starts_with('-') {
                tracing::info!("(Non critical) Master does not understand REPLCONF {what}: {answer}");
            }
        }
        Ok(Question(wire))
    }
}

impl Question<'_> {
    /// Asks to go on, or for everything.
    pub async fn ask(self, request: &Request) -> Result<Verdict, Failed> {
        let (replid, offset) = match &request.known {
            Some((replid, end)) => {
                let next = end + 1;
                tracing::info!("Trying a partial resynchronization (request {replid}:{next}).");
                (replid.as_str(), next.to_string())
            }
            None => {
                tracing::info!("Partial resynchronization not possible (no cached master)");
                ("?", "-1".to_owned())
            }
        };
        let mut words: Vec<&[u8]> = vec![b"PSYNC", replid.as_bytes(), offset.as_bytes()];
        if request.hands_over {
            words.push(b"FAILOVER");
        }
        send(self.0, &words).await?;
        loop {
            let answer = match self.0.line().await {
                Ok(line) => line,
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return Err(timed_out()),
                Err(_) => {
                    tracing::warn!("Master did not reply to PSYNC, will try later");
                    return Ok(Verdict::Later);
                }
            };
            // Empty lines keep the link alive while the primary makes up its mind.
            if !answer.is_empty() {
                return Ok(read_verdict(&answer));
            }
        }
    }
}

fn read_verdict(answer: &str) -> Verdict {
    let mut words = answer.split(' ');
    match words.next() {
        Some("+FULLRESYNC") => {
            let replid = words.next().filter(|replid| replid.len() == 40);
            let offset = words.next().and_then(|offset| offset.parse().ok());
            if let Some((replid, offset)) = replid.zip(offset) {
                tracing::info!("Full resync from master: {replid}:{offset}");
                return Verdict::Full { replid: replid.to_owned(), offset };
            }
            tracing::warn!("Master replied with wrong +FULLRESYNC syntax.");
            Verdict::Later
        }
        Some("+CONTINUE") => {
            tracing::info!("Successful partial resynchronization with master.");
            Verdict::Continue(words.next().filter(|replid| replid.len() == 40).map(str::to_owned))
        }
        Some("-NOMASTERLINK" | "-LOADING") => {
            tracing::info!("Master is currently unable to PSYNC but should be in the future: {answer}");
            Verdict::Later
        }
        Some("-ERR") => {
            tracing::info!("Master does not support PSYNC or is in error state (reply: {answer})");
            Verdict::Unsupported
        }
        _ => {
            tracing::warn!("Unexpected reply to PSYNC from master: {answer}");
            Verdict::Unsupported
        }
    }
}

async fn send(wire: &mut Wire, words: &[&[u8]]) -> Result<(), Failed> {
    wire.send(words).await.map_err(|error| {
        tracing::warn!("Sending command to master in replication handshake: {}", plain(&error));
        Failed
    })
}

async fn answer(wire: &mut Wire) -> Result<String, Failed> {
    wire.line().await.map_err(|error| {
        if error.kind() == io::ErrorKind::TimedOut {
            return timed_out();
        }
        tracing::warn!("Master did not respond to command during SYNC handshake");
        Failed
    })
}

/// Told of a primary that is silent before the link is up.
pub fn timed_out() -> Failed {
    tracing::warn!("Timeout connecting to the MASTER...");
    Failed
}

/// The words of the system for an error.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// repl-timeout as it is set now.
pub fn patience(server: &Server) -> Duration {
    Duration::from_secs(u64::from(server.config.current().repl_timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_of_primaries_old_and_new() {
        let id = "0123456789012345678901234567890123456789";
        let full = Verdict::Full { replid: id.to_owned(), offset: 77 };
        assert_eq!(read_verdict(&format!("+FULLRESYNC {id} 77")), full);
        assert_eq!(read_verdict("+FULLRESYNC short 77"), Verdict::Later);
        assert_eq!(read_verdict("+CONTINUE"), Verdict::Continue(None));
        assert_eq!(read_verdict(&format!("+CONTINUE {id}")), Verdict::Continue(Some(id.to_owned())));
        assert_eq!(read_verdict("-NOMASTERLINK Can't SYNC while not connected with my master"), Verdict::Later);
        assert_eq!(read_verdict("-LOADING Redis is loading the dataset in memory"), Verdict::Later);
        assert_eq!(read_verdict("-ERR unknown command 'PSYNC'"), Verdict::Unsupported);
        assert_eq!(read_verdict("-NOPERM this user has no permissions"), Verdict::Unsupported);
    }
}
