//! MIGRATE: keys go to another server and, unless they are copied, disappear here.
//!
//! ```text
//!   client asleep ─► read keys under their locks ─► AUTH, SELECT, RESTORE … ─► one answer per key
//!                            ▲                                                     │ OK
//!                            │ it has changed meanwhile: send it again (REPLACE)   ▼
//!                            └──────────────────────── is the key still as it was sent? ─ yes ─► DEL, in the stream too
//! ```
//! Redis does all this in one go while everything else waits. Here other clients go on, so a key is deleted only if it is
//! still, under its lock, what the target has confirmed; no write falls between the two servers.

use super::target::{Answer, Target};
use crate::base::clock;
use crate::base::number::{IntText, parse_i64};
use crate::commands::error::{self, CommandError};
use crate::commands::keyspec::{Find, KeySpec};
use crate::commands::spec::Group;
use crate::engine::keyspace::{Locked, ShardSet, shard_of};
use crate::engine::record::Record;
use crate::net::dial::{self, Dial};
use crate::rdb::dump;
use crate::resp::{Args, OwnedArgs, Reply, encode};
use crate::server::call::{self, Caller};
use crate::server::migrations::{self, Migration, Request};
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};
use crate::server::{Server, Worker, blocking, dispatch};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Everything behind the word.
const KEYS: KeySpec = KeySpec::after("KEYS", -2).find(Find::Range { last: -1, step: 1, limit: 0 });

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::new("migrate", -6, migrate)
    .group(Group::Generic)
    .since("2.6.0")
    .write()
    .categories(&["keyspace", "dangerous"])
    .tips(&["nondeterministic_output"])
    .keys(&[KeySpec::at(3).rw().access().delete(), KEYS.rw().access().delete().incomplete()])
    .key_finder(find_keys)
    .syntax(
        "host port <key | \"\"> destination-db timeout [COPY] [REPLACE] [AUTH password | AUTH2 username password] \
         [KEYS key [key ...]]",
    )
    .summary("Moves keys to another server.")
    .complexity("O(N) in the size of the values")];

/// Connections that are kept at most, and for how long.
const SOCKETS_MAX: usize = 64;
const SOCKET_TTL_MS: i64 = 10_000;
const DEFAULT_TIMEOUT_MS: u64 = 1000;
/// A key that others change all the time is sent again for so many timeouts before MIGRATE gives up on it.
const TIMEOUTS_MAX: u64 = 4;
/// Between two looks at a key that a busy script keeps.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

fn migrate(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let request = parse(args)?;
    if ctx.deny_blocking || ctx.locked.is_some() {
        return Err(CommandError::fixed("ERR MIGRATE is not allowed inside a transaction or a script"));
    }
    migrations::block(ctx.worker.server, ctx.session, request);
    Ok(SessionFlow::Blocked)
}

/// The keys, for ACLs and COMMAND GETKEYS: those behind KEYS if the key itself is empty.
fn find_keys(args: Args<'_>) -> Vec<usize> {
    let mut index = 6;
    while index < args.len() && args[3].is_empty() {
        if args.is(index, "KEYS") {
            return (index + 1..args.len()).collect();
        }
        let values = if args.is(index, "AUTH") { 1 } else { usize::from(args.is(index, "AUTH2")) * 2 };
        index += 1 + values;
    }
    vec![3]
}

fn parse(args: Args<'_>) -> Result<Request, CommandError> {
    let mut request = Request { keys: vec![args[3].into()], ..Request::default() };
    let mut index = 6;
    while index < args.len() {
        let left = args.len() - index - 1;
        if args.is(index, "COPY") {
            request.copy = true;
        } else if args.is(index, "REPLACE") {
            request.replace = true;
        } else if args.is(index, "AUTH") && left >= 1 {
            request.auth = vec![args[index + 1].into()];
            index += 1;
        } else if args.is(index, "AUTH2") && left >= 2 {
            request.auth = vec![args[index + 1].into(), args[index + 2].into()];
            index += 2;
        } else if args.is(index, "KEYS") {
            if !args[3].is_empty() {
                return Err(CommandError::fixed(
                    "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                ));
            }
            request.keys = args.from(index + 1).iter().map(Box::from).collect();
            break;
        } else {
            return Err(error::SYNTAX);
        }
        index += 1;
    }
    let timeout_ms = parse_i64(&args[5]).ok_or(error::NOT_AN_INTEGER)?;
    request.timeout_ms = u64::try_from(timeout_ms).ok().filter(|ms| *ms > 0).unwrap_or(DEFAULT_TIMEOUT_MS);
    request.target_db = parse_i64(&args[4]).ok_or(error::NOT_AN_INTEGER)?;
    request.host = String::from_utf8_lossy(&args[1]).into_owned();
    // Like any other address where nobody answers.
    request.port = parse_i64(&args[2]).and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
    Ok(request)
}

/// Why a migration came to nothing, or only to a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The connection broke or stayed silent, doing this.
    Lost { what: &'static str, timed_out: bool },
    /// The target answered with an error.
    Refused(String),
    /// Some keys have changed whenever they had been sent; they are still here.
    Restless,
    /// Meanwhile this server has begun to follow another.
    NotPrimary,
}

impl Failure {
    pub fn lost(what: &'static str) -> Self {
        Failure::Lost { what, timed_out: false }
    }

    pub fn timed_out(what: &'static str) -> Self {
        Failure::Lost { what, timed_out: true }
    }

    fn text(&self) -> String {
        match self {
            Failure::Lost { what, .. } => format!("IOERR error or timeout {what} target instance"),
            Failure::Refused(text) => format!("ERR Target instance replied with error: {text}"),
            Failure::Restless => "IOERR keys change faster than they can be moved".to_owned(),
            Failure::NotPrimary => error::READ_ONLY_REPLICA.text().into_owned(),
        }
    }
}

/// A key as it was read.
struct Sent {
    key: Box<[u8]>,
    payload: Vec<u8>,
    expiry: Option<i64>,
}

struct Migrator {
    server: &'static Server,
    /// Runs the deletions.
    worker: Mutex<Worker>,
    sockets: Mutex<HashMap<(String, u16), Target>>,
}

/// Migrates for ever what clients ask for.
pub async fn run(server: &'static Server) {
    let migrator =
        Arc::new(Migrator { server, worker: Mutex::new(Worker::new(server)), sockets: Mutex::new(HashMap::new()) });
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            migration = poll_fn(|context| server.migrations.poll_next(context)) => {
                let migrator = Arc::clone(&migrator);
                tokio::spawn(async move { migrator.serve(migration).await });
            }
            _ = tick.tick() => migrator.drop_old_sockets(clock::unix_ms()),
        }
    }
}

impl Migrator {
    async fn serve(&self, migration: Migration) {
        let result = self.migrate(&migration.request, migration.db).await;
        migration.end(self.server, |reply| match result {
            Ok(true) => reply.ok(),
            Ok(false) => reply.raw(b"+NOKEY\r\n"),
            Err(failure) => reply.error(&failure.text()),
        });
    }

    /// False if there is none of the keys.
    async fn migrate(&self, request: &Request, db: usize) -> Result<bool, Failure> {
        let mut todo = self.read(db, &request.keys).await;
        if todo.is_empty() {
            return Ok(false);
        }
        let mut replace = request.replace;
        let mut refusal = None;
        let give_up_ms = clock::unix_ms().saturating_add_unsigned(request.timeout_ms.saturating_mul(TIMEOUTS_MAX));
        loop {
            let (answers, broken) = self.send(request, &todo, replace).await;
            let mut moved = Vec::new();
            for (sent, answer) in todo.into_iter().zip(answers) {
                match answer {
                    Ok(()) => moved.push(sent),
                    Err(text) => refusal = Some(refusal.unwrap_or(text)),
                }
            }
            let changed = if request.copy { Vec::new() } else { self.delete(db, moved)? };
            if let Some(failure) = broken {
                return Err(failure);
            }
            if changed.is_empty() {
                break;
            }
            if clock::unix_ms() > give_up_ms {
                return Err(Failure::Restless);
            }
            todo = self.read(db, &changed).await;
            // What the target has is an older state of the same key.
            replace = true;
        }
        refusal.map_or(Ok(true), |text| Err(Failure::Refused(text)))
    }

    /// The keys that exist now. One that a busy script keeps is waited for.
    async fn read(&self, db: usize, keys: &[Box<[u8]>]) -> Vec<Sent> {
        let mut found = Vec::with_capacity(keys.len());
        for key in keys {
            loop {
                match self.read_one(db, key) {
                    Some(sent) => break found.extend(sent),
                    None => tokio::time::sleep(BUSY_PAUSE).await,
                }
            }
        }
        found
    }

    fn read_one(&self, db: usize, key: &[u8]) -> Option<Option<Sent>> {
        let hash = Locked::hash(key);
        let locked = self.server.lock(ShardSet::one(shard_of(hash)))?;
        let now_ms = clock::unix_ms();
        let record = locked.db(hash, db).and_then(|part| part.find(hash, key));
        let record = record.filter(|record| record.expiry().is_none_or(|at| at > now_ms));
        Some(record.map(|record| Sent { key: key.into(), payload: self.payload(record), expiry: record.expiry() }))
    }

    fn payload(&self, record: &Record) -> Vec<u8> {
        dump::payload(record, self.server.config.current().rdbcompression)
    }

    /// Sends the keys; the answers that came, and what went wrong then. A kept connection that turns out to be dead is replaced once.
    async fn send(&self, request: &Request, keys: &[Sent], replace: bool) -> (Vec<Answer>, Option<Failure>) {
        let mut answers = Vec::new();
        let kept = self.take_socket(request);
        let was_kept = kept.is_some();
        let mut failure = self.try_send(request, kept, keys, replace, &mut answers).await.err();
        let may_retry = matches!(failure, Some(Failure::Lost { timed_out: false, .. }));
        if was_kept && may_retry && answers.is_empty() {
            failure = self.try_send(request, None, keys, replace, &mut answers).await.err();
        }
        (answers, failure)
    }

    async fn try_send(
        &self,
        request: &Request,
        kept: Option<Target>,
        keys: &[Sent],
        replace: bool,
        answers: &mut Vec<Answer>,
    ) -> Result<(), Failure> {
        let timeout = Duration::from_millis(request.timeout_ms);
        let mut target = match kept {
            Some(target) => target,
            None => self.dial(request, timeout).await?,
        };
        let selects = target.selected_db != Some(request.target_db);
        let mut bytes = Vec::new();
        if !request.auth.is_empty() {
            encode(&mut bytes, std::iter::once(b"AUTH".as_slice()).chain(request.auth.iter().map(|word| &**word)));
        }
        if selects {
            encode(&mut bytes, [b"SELECT".as_slice(), &IntText::new(request.target_db)]);
        }
        let now_ms = clock::unix_ms();
        // Into a slot that the other node is importing.
        let verb: &[u8] = if self.server.config.current().cluster_enabled { b"RESTORE-ASKING" } else { b"RESTORE" };
        for sent in keys {
            let ttl = sent.expiry.map_or(0, |at| (at - now_ms).max(1));
            let ttl = IntText::new(ttl);
            let words = [verb, &sent.key, &ttl, &sent.payload];
            encode(&mut bytes, words.into_iter().chain(replace.then_some(b"REPLACE".as_slice())));
        }
        target.write(&bytes, timeout).await?;
        if !request.auth.is_empty() {
            target.answer(timeout).await?.map_err(Failure::Refused)?;
        }
        if selects {
            target.answer(timeout).await?.map_err(Failure::Refused)?;
        }
        for _ in keys {
            answers.push(target.answer(timeout).await?);
        }
        target.selected_db = Some(request.target_db);
        self.keep_socket(request, target);
        Ok(())
    }

    async fn dial(&self, request: &Request, timeout: Duration) -> Result<Target, Failure> {
        let dial = Dial { source: None, timeout };
        let tls = self.server.tls.client().filter(|_| self.server.config.current().tls_cluster);
        let stream = match tls {
            Some(tls) => dial::tls(&request.host, request.port, &dial, tls).await,
            None => dial::tcp(&request.host, request.port, &dial).await,
        };
        stream.map(Target::new).map_err(|_| Failure::lost("writing to"))
    }

    /// Deletes what the target has, key by key, if it is still the same; returns those that have changed.
    fn delete(&self, db: usize, moved: Vec<Sent>) -> Result<Vec<Box<[u8]>>, Failure> {
        let mut worker = self.worker.lock();
        let mut changed = Vec::new();
        for sent in moved {
            worker.refresh();
            if self.server.is_replica.load(Ordering::Acquire) && worker.config.replica_read_only {
                return Err(Failure::NotPrimary);
            }
            let args = OwnedArgs::new([b"DEL".as_slice(), &sent.key]);
            let found = dispatch::find_command(&worker, args.as_args()).ok();
            let Some((entry, handler)) = found.and_then(|entry| Some((entry, call::key_handler(entry)?))) else {
                continue;
            };
            let caller = Caller::internal(db);
            let Some((mut locked, shards)) = call::lock(&mut worker, caller, entry, args.as_args(), None) else {
                // A busy script keeps it, and may change it.
                changed.push(sent.key);
                continue;
            };
            let hash = Locked::hash(&sent.key);
            let is_same = locked
                .db(hash, db)
                .and_then(|part| part.find(hash, &sent.key))
                .map(|record| record.expiry() == sent.expiry && self.payload(record) == sent.payload);
            match is_same {
                Some(true) => {
                    let mut reply = Reply::new(false);
                    call::execute(&mut worker, &mut locked, caller, entry, handler, args.as_args(), &mut reply);
                    call::finish(&mut worker, &mut locked, shards, entry);
                }
                Some(false) => changed.push(sent.key),
                // Somebody has deleted it, or it has expired.
                None => {}
            }
            drop(locked);
            blocking::finish_deferred(&mut worker);
        }
        Ok(changed)
    }

    fn take_socket(&self, request: &Request) -> Option<Target> {
        let mut sockets = self.sockets.lock();
        let target = sockets.remove(&(request.host.clone(), request.port));
        self.server.migrations.cached_sockets.store(sockets.len(), Ordering::Relaxed);
        target
    }

    fn keep_socket(&self, request: &Request, mut target: Target) {
        target.used_ms = clock::unix_ms();
        let mut sockets = self.sockets.lock();
        if sockets.len() < SOCKETS_MAX {
            sockets.insert((request.host.clone(), request.port), target);
        }
        self.server.migrations.cached_sockets.store(sockets.len(), Ordering::Relaxed);
    }

    fn drop_old_sockets(&self, now_ms: i64) {
        let mut sockets = self.sockets.lock();
        sockets.retain(|_, target| now_ms - target.used_ms < SOCKET_TTL_MS);
        self.server.migrations.cached_sockets.store(sockets.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Result<Request, CommandError> {
        parse(OwnedArgs::new(line.split(' ').map(|word| if word == "''" { b"" } else { word.as_bytes() })).as_args())
    }

    #[test]
    fn options_are_parsed_as_documented() {
        let one = request("MIGRATE host 7000 key 9 0 COPY replace AUTH2 user word").expect("good");
        assert_eq!((one.port, one.target_db, one.timeout_ms, one.copy, one.replace), (7000, 9, 1000, true, true));
        assert_eq!((one.keys.len(), one.auth.len()), (1, 2));
        let many = request("MIGRATE host 7000 '' 0 50 KEYS a COPY").expect("good");
        // Behind KEYS everything is a key.
        assert_eq!((many.keys.len(), many.copy, many.timeout_ms), (2, false, 50));
        assert!(request("MIGRATE host 7000 key 0 50 KEYS a").is_err_and(|error| error.text().contains("empty string")));
        assert!(request("MIGRATE host 7000 key 0 50 AUTH").is_err());
        assert!(request("MIGRATE host 7000 key x 50").is_err());
    }

    #[test]
    fn keys_are_found_behind_the_values_of_options() {
        let keys = |line: &str| {
            let words = line.split(' ').map(|word| if word == "''" { b"" } else { word.as_bytes() });
            find_keys(OwnedArgs::new(words).as_args())
        };
        assert_eq!(keys("MIGRATE h 1 key 0 5"), [3]);
        assert_eq!(keys("MIGRATE h 1 '' 0 5 AUTH KEYS KEYS a b"), [9, 10]);
        assert_eq!(keys("MIGRATE h 1 '' 0 5 AUTH2 KEYS x COPY KEYS a"), [11]);
    }
}
