//! `redis.call`: a command of a script, within the locks that the script holds.

use super::api::{self, raise};
use super::debugger::{Debugger, Undo};
use super::interpreter::{Interpreter, Reach, Scratch};
use super::run::{self, Program};
use super::{convert, libraries};
use crate::base::clock;
use crate::commands::effects::EventClasses;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::engine::keyspace::{Locked, place};
use crate::engine::lua::{Event, Host, Outcome, Question, Stack};
use crate::resp::Args;
use crate::server::scripts::Run;
use crate::server::session::Session;
use crate::server::slots::redirect;
use crate::server::table::Entry;
use crate::server::{Worker, auth, dispatch, multi, plan};
use std::cell::Cell;
use std::sync::atomic::Ordering;

pub const KILLED: &str = "Script killed by user with SCRIPT KILL...";
const OVER: &str = "The script starts over with all keys locked";

/// Whether a script needs shards that it did not get, and can begin again because it has done nothing yet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum StartOver {
    No,
    Yes,
}

/// The host of a running script.
pub struct Caller<'a> {
    pub(super) worker: &'a mut Worker,
    session: &'a mut Session,
    locked: &'a mut Locked,
    scratch: &'a mut Scratch,
    run: &'a Run,
    program: &'a Program<'a>,
    refuses_writes: bool,
    resp3: &'a Cell<bool>,
    /// Bits of redis.set_repl.
    replicates_to: i64,
    /// It has run commands that cannot be taken back.
    has_acted: bool,
    /// In cluster mode: the slot of its keys.
    slot: Option<u16>,
    starts_over: StartOver,
    /// When it was first looked at; scripts that are done before that need no clock.
    pub(super) started_ms: Option<i64>,
    pub(super) debugger: Option<Box<Debugger>>,
    /// What is written is taken back at the end.
    undo: Option<Undo>,
}

/// Why a command was not run.
enum Refusal {
    /// The call itself makes no sense.
    Call(&'static str),
    Command(Option<&'static Entry>, CommandError),
    StartOver,
}

impl<'a> Caller<'a> {
    pub fn new(
        worker: &'a mut Worker,
        session: &'a mut Session,
        locked: &'a mut Locked,
        scratch: &'a mut Scratch,
        run: &'a Run,
        program: &'a Program<'a>,
        interpreter: &'a Interpreter,
    ) -> Self {
        interpreter.resp3.set(false);
        let debug = session.script_debug.as_deref().filter(|_| !program.is_function);
        let debugger = debug.map(|_| Box::new(Debugger::new(&program.call[1])));
        let undo = debug.filter(|debug| !debug.keeps_writes).map(|_| Undo::default());
        Caller {
            worker,
            session,
            locked,
            scratch,
            run,
            program,
            refuses_writes: program.read_only || program.compiled.flags.no_writes,
            resp3: &interpreter.resp3,
            replicates_to: api::REPL_ALL,
            has_acted: false,
            slot: program.keys.get(0).map(|key| place::slot_of(Locked::hash(key))),
            starts_over: StartOver::No,
            started_ms: None,
            debugger,
            undo,
        }
    }

    /// The end of a debugged script: takes back what is not to stay; what the debugger has not said yet.
    pub fn end_debugging(&mut self) -> Option<Vec<Vec<u8>>> {
        if let Some(undo) = self.undo.take() {
            undo.undo(self.locked);
        }
        self.debugger.take().map(|debugger| debugger.into_log())
    }

    fn stepping(&mut self) -> Option<&mut Debugger> {
        self.debugger.as_deref_mut().filter(|debugger| debugger.is_stepping())
    }

    pub fn starts_over(&self) -> StartOver {
        self.starts_over
    }

    /// Reads the arguments into the scratch buffer.
    fn read_arguments(&mut self, stack: &Stack) -> Result<(), &'static str> {
        let Scratch { words, ranges, .. } = &mut *self.scratch;
        words.clear();
        ranges.clear();
        if stack.top() == 0 {
            return Err("Please specify at least one argument for this redis lib call");
        }
        for index in 1..=stack.top() {
            let start = words.len();
            if !api::append_argument(stack, index, words) {
                return Err("Lua redis lib command arguments must be strings or integers");
            }
            ranges.push((start as u32, (words.len() - start) as u32));
        }
        Ok(())
    }

    /// Runs the command on the stack; its reply is in the scratch buffer.
    fn try_call(&mut self, stack: &Stack) -> Result<(), Refusal> {
        self.read_arguments(stack).map_err(Refusal::Call)?;
        let mut reply = std::mem::take(&mut self.scratch.reply);
        let (words, ranges) = (std::mem::take(&mut self.scratch.words), std::mem::take(&mut self.scratch.ranges));
        let args = Args::new(&words, &ranges);
        if let Some(debugger) = self.stepping() {
            debugger.note_command(args);
        }
        let result = self.admit(args).map(|entry| {
            let unit = self.worker.unit.len();
            reply.buffer_mut().clear();
            reply.set_resp3(self.resp3.get());
            if let Err(error) = dispatch::admit(self.worker, self.session, entry, args, None) {
                dispatch::reject(self.worker, entry, &error, &mut reply);
            } else if self.undo.is_some() {
                // Nobody is to hear of what will not have happened.
                let notify = std::mem::replace(&mut self.worker.settings.notify, EventClasses::NONE);
                multi::run_admitted(self.worker, self.session, self.locked, entry, args, &mut reply);
                self.worker.settings.notify = notify;
            } else {
                if entry.writes && !self.run.has_written() {
                    self.run.note_written();
                }
                multi::run_admitted(self.worker, self.session, self.locked, entry, args, &mut reply);
            }
            if self.replicates_to == 0 || (self.undo.is_some() && entry.writes) {
                self.worker.unit.truncate(unit);
            }
            if let Some(audience) = api::audience(self.replicates_to) {
                let places = unit..self.worker.unit.len();
                self.worker.narrow.extend(places.map(|place| (place, audience)));
            }
            if let Some(debugger) = self.stepping() {
                debugger.note_reply(reply.as_bytes());
            }
        });
        *self.scratch = Scratch { words, ranges, reply };
        result
    }

    /// Whether a script may run this command now.
    fn admit(&mut self, args: Args<'_>) -> Result<&'static Entry, Refusal> {
        let entry = dispatch::find_command(self.worker, args).map_err(|error| {
            // Scripts have always been told these two in other words.
            let is_arity = error.bytes().starts_with(b"ERR wrong number");
            Refusal::Command(
                None,
                CommandError::fixed(if is_arity {
                    "ERR Wrong number of args calling Redis command from script"
                } else {
                    "ERR Unknown Redis command called from script"
                }),
            )
        })?;
        let refuse = |text| Err(Refusal::Command(Some(entry), CommandError::fixed(text)));
        let (server, flags) = (self.worker.server, entry.spec.flags);
        if flags.has(Flags::NOSCRIPT) && !server.allow_noscript.load(Ordering::Relaxed) {
            return refuse("ERR This Redis command is not allowed from script");
        }
        if self.refuses_writes && (entry.writes || flags.has(Flags::MAY_REPLICATE)) {
            return refuse("ERR Write commands are not allowed from read-only scripts.");
        }
        if !self.session.is_primary_link {
            if !flags.has(Flags::STALE) && dispatch::is_stale(self.worker) {
                return refuse("ERR Can not execute the command on a stale replica");
            }
            let is_copy = server.is_replica.load(Ordering::Relaxed) && self.worker.config.replica_read_only;
            if entry.writes && is_copy && !self.run.has_written() {
                return Err(Refusal::Command(Some(entry), error::READ_ONLY_REPLICA));
            }
        }
        let is_first_write = entry.writes && !self.run.has_written();
        if is_first_write && flags.has(Flags::DENYOOM) && self.worker.out_of_memory {
            let may_grow = self.program.compiled.flags.allow_oom || self.session.is_primary_link;
            if !may_grow {
                return Err(Refusal::Command(Some(entry), error::OUT_OF_MEMORY));
            }
        }
        self.reach(entry, args)?;
        if self.worker.settings.cluster_enabled && !self.session.is_primary_link {
            let may_cross = self.program.compiled.flags.allow_cross_slot_keys;
            let (worker, session, locked) = (&*self.worker, &*self.session, &*self.locked);
            redirect::admit_in_script(worker, session, locked, entry, args, &mut self.slot, may_cross)
                .map_err(|error| Refusal::Command(Some(entry), error))?;
        }
        if !flags.has(Flags::READONLY) {
            self.has_acted = true;
        }
        if let Some(undo) = &mut self.undo {
            let prepared = undo.prepare(self.locked, self.session.db, entry, args);
            prepared.map_err(|error| Refusal::Command(Some(entry), error))?;
        }
        Ok(entry)
    }

    /// Sees to it that the shards of a command are locked.
    fn reach(&mut self, entry: &'static Entry, args: Args<'_>) -> Result<(), Refusal> {
        self.worker.planned.clear();
        let needed = plan::shards(entry, args, &mut self.worker.planned);
        if self.locked.set().covers(needed) {
            return Ok(());
        }
        if !self.has_acted {
            self.starts_over = StartOver::Yes;
            return Err(Refusal::StartOver);
        }
        // From now on this script is given everything at once.
        self.program.compiled.reach.set(Reach::Everything);
        let server = self.worker.server;
        let (scripts, run) = (&server.scripts.running, self.run);
        if self.locked.extend(needed, || scripts.is_busy() && !run.is_busy()) {
            return Ok(());
        }
        let text = "ERR The script has touched a key that it has not declared after it had written, while another did the same";
        Err(Refusal::Command(Some(entry), CommandError::fixed(text)))
    }

    /// Counts a refusal and pushes its error.
    fn push_refusal(&mut self, stack: &mut Stack, refusal: Refusal) {
        if let Some(debugger) = self.stepping() {
            match &refusal {
                Refusal::Call(text) => debugger.note_error(text.as_bytes()),
                Refusal::Command(_, error) => debugger.note_error(error.reason()),
                Refusal::StartOver => {}
            }
        }
        match refusal {
            Refusal::Call(text) => stack.push_error(text.as_bytes()),
            Refusal::StartOver => stack.push_error(OVER.as_bytes()),
            Refusal::Command(entry, error) => {
                self.worker.stats.count_error(error.code());
                if let Some(entry) = entry {
                    self.worker.stats.commands[entry.id].rejected.add(1);
                }
                convert::push_error(stack, error.bytes());
            }
        }
    }

    fn may_call(&mut self, stack: &mut Stack) -> Outcome {
        if let Err(text) = self.read_arguments(stack) {
            return raise(stack, text);
        }
        let args = Args::new(&self.scratch.words, &self.scratch.ranges);
        match dispatch::find_name(self.worker, args) {
            None => raise(stack, "Invalid command passed to redis.acl_check_cmd()"),
            Some(entry) => {
                stack.push_boolean(auth::may_run(self.session, entry, args));
                Outcome::Return(1)
            }
        }
    }

    fn set_resp(&self, stack: &mut Stack) -> Outcome {
        if stack.top() != 1 {
            return raise(stack, "redis.setresp() requires one argument.");
        }
        match stack.number(1).map(|version| version as i64) {
            Some(2) => self.resp3.set(false),
            Some(3) => self.resp3.set(true),
            _ => return raise(stack, "RESP version must be 2 or 3."),
        }
        Outcome::Return(0)
    }

    fn set_repl(&mut self, stack: &mut Stack) -> Outcome {
        if stack.top() != 1 {
            return raise(stack, "redis.set_repl() requires two arguments.");
        }
        match stack.number(1).unwrap_or_default() as i64 {
            bits @ 0..=api::REPL_ALL => self.replicates_to = bits,
            _ => {
                let text = "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.";
                return raise(stack, text);
            }
        }
        Outcome::Return(0)
    }

    /// Others are told from now on that a script keeps the server.
    fn become_busy(&self, started_ms: i64, elapsed: i64) {
        let name = run::shown_name(self.program);
        let kill = if self.program.is_function { "FUNCTION KILL" } else { "SCRIPT KILL" };
        tracing::warn!(
            "Slow script detected: still in execution after {elapsed} milliseconds. You can try killing the script using the \
             {kill} command. Script name is: {name}."
        );
        let call = self.program.call.iter().map(<[u8]>::to_vec).collect();
        self.worker.server.scripts.running.note_busy(self.run, &name, started_ms, call);
    }

    /// Serves others once the script has run for long. A text ends it.
    pub(super) fn look_up(&mut self) -> Option<&'static str> {
        if self.starts_over == StartOver::Yes {
            return Some(OVER);
        }
        let server = self.worker.server;
        if !self.run.is_busy() {
            let threshold = server.config.current().busy_reply_threshold as i64;
            let now_ms = clock::unix_ms();
            let started_ms = *self.started_ms.get_or_insert(now_ms);
            let elapsed = now_ms - started_ms;
            if threshold == 0 || elapsed < threshold {
                return None;
            }
            self.become_busy(started_ms, elapsed);
        }
        server.serve_while_busy();
        if self.run.is_killed() {
            tracing::warn!("Lua script killed by user with SCRIPT KILL.");
            return Some(KILLED);
        }
        None
    }

    fn breakpoint(&mut self, stack: &mut Stack) -> Outcome {
        stack.push_boolean(self.debugger.is_some());
        if let Some(debugger) = &mut self.debugger {
            debugger.break_soon();
        }
        Outcome::Return(1)
    }

    fn debug(&mut self, stack: &mut Stack) -> Outcome {
        if let Some(debugger) = &mut self.debugger {
            debugger.note_values(stack);
        }
        Outcome::Return(0)
    }
}

impl Host for Caller<'_> {
    fn call(&mut self, stack: &mut Stack, raises: bool) -> Outcome {
        let failed = match self.try_call(stack) {
            Ok(()) => {
                // The arguments are not needed any more, and the reply wants room.
                stack.truncate(0);
                let reply = self.scratch.reply.as_bytes();
                convert::push_reply(stack, reply, &mut 0, self.resp3.get());
                reply.first() == Some(&b'-')
            }
            Err(refusal) => {
                stack.truncate(0);
                let must_end = matches!(refusal, Refusal::StartOver);
                self.push_refusal(stack, refusal);
                if must_end {
                    stack.interrupt();
                    return Outcome::Raise;
                }
                true
            }
        };
        if failed && raises { Outcome::Raise } else { Outcome::Return(1) }
    }

    fn ask(&mut self, question: Question, stack: &mut Stack) -> Outcome {
        match question {
            Question::SetResp => self.set_resp(stack),
            Question::SetRepl => self.set_repl(stack),
            Question::MayCall => self.may_call(stack),
            Question::Random => libraries::random(stack),
            Question::RandomSeed => libraries::random_seed(stack),
            Question::Breakpoint => self.breakpoint(stack),
            Question::Debug => self.debug(stack),
            Question::Register => raise(stack, "redis.register_function can only be called on FUNCTION LOAD command"),
        }
    }

    fn tick(&mut self) -> Option<&'static str> {
        self.look_up()
    }

    fn watches_lines(&self) -> bool {
        self.debugger.is_some()
    }

    fn line(&mut self, stack: &mut Stack, event: Event) -> Option<String> {
        self.debug_line(stack, event)
    }

    fn note_error(&mut self, text: &[u8]) {
        if let Some(debugger) = self.stepping() {
            debugger.note_error(text);
        }
    }
}
