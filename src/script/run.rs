//! Running a script or function on behalf of a client: redis.call within the locks that the command holds, the rules of
//! its flags, and its result as the reply.

use super::api::{bytes_of, sha1_hex};
use super::convert;
use super::flags::ScriptFlags;
use super::interpreter::Interpreter;
use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::engine::keyspace::Locked;
use crate::resp::{Args, OwnedArgs, Reply};
use crate::server::monitor::Source;
use crate::server::session::{Session, SessionContext};
use crate::server::{Worker, dispatch, multi};
use mlua::{Function, Lua, MultiValue, Table, Value};
use std::cell::RefCell;
use std::sync::atomic::Ordering;

/// What is run.
pub struct Program<'a> {
    pub callback: Function,
    pub flags: ScriptFlags,
    /// EVAL_RO, FCALL_RO: writes are refused whatever the flags say.
    pub read_only: bool,
    /// Of a function; a script goes by its SHA1.
    pub function: Option<&'a str>,
    pub sha: [u8; 40],
    pub keys: Args<'a>,
    pub args: Args<'a>,
}

/// What redis.call needs of the command that runs the script.
struct Run<'a> {
    worker: &'a mut Worker,
    session: &'a mut Session,
    locked: &'a mut Locked,
    scratch: Reply,
    refuses_writes: bool,
}

/// Runs a program and writes its reply.
pub fn run(
    ctx: &mut SessionContext<'_>,
    interpreter: &Interpreter,
    program: &Program<'_>,
    call: Args<'_>,
) -> Result<(), CommandError> {
    let refuses_writes = program.read_only || program.flags.no_writes;
    check_flags(ctx, program, refuses_writes)?;
    let server = ctx.worker.server;
    let (db, now_ms) = (ctx.session.db, ctx.worker.now_ms);
    let Some(locked) = ctx.locked.as_deref_mut() else {
        return Err(CommandError::fixed("ERR internal error: the keyspace is not locked"));
    };
    interpreter.resp3.set(false);
    server.scripts.running.start(now_ms, program.function, || call.iter().map(<[u8]>::to_vec).collect());
    let run = RefCell::new(Run {
        worker: ctx.worker,
        session: ctx.session,
        locked,
        scratch: Reply::default(),
        refuses_writes,
    });
    {
        let mut run = run.borrow_mut();
        if run.worker.has_monitors {
            // Ahead of the commands that it runs.
            server.feed_monitors(db, Source::Client(&run.session.client), ctx.entry, call);
        }
        run.session.in_script = true;
    }
    let result = execute(interpreter, program, &run);
    drop(run);
    ctx.session.in_script = false;
    if std::mem::take(&mut ctx.session.script_has_read) {
        // The keys that the script has declared stand for those that it has read.
        server.remember_reads(ctx.session.client.id, ctx.entry, call);
    }
    server.scripts.running.end();
    ctx.session.db = db;
    ctx.session.client.db.store(db, Ordering::Relaxed);
    let (ok, value) = result.map_err(|error| CommandError::new(format!("ERR {error}")))?;
    let is_resp3 = interpreter.resp3.get();
    if ok {
        ctx.reply.set_resp3(ctx.session.resp3);
        return convert::lua_to_reply(ctx.reply, &value, is_resp3)
            .map_err(|error| CommandError::new(format!("ERR {error}")));
    }
    Err(error_of(&value, program))
}

fn execute(interpreter: &Interpreter, program: &Program<'_>, run: &RefCell<Run<'_>>) -> mlua::Result<(bool, Value)> {
    let lua = &interpreter.lua;
    let list = |args: Args<'_>| -> mlua::Result<Table> {
        let table = lua.create_table_with_capacity(args.len(), 0)?;
        for (index, arg) in args.iter().enumerate() {
            table.raw_set(index + 1, lua.create_string(arg)?)?;
        }
        Ok(table)
    };
    let (keys, args) = (list(program.keys)?, list(program.args)?);
    lua.scope(|scope| {
        let resp3 = &interpreter.resp3;
        let call = scope
            .create_function(|lua, args: MultiValue| redis_call(lua, &mut run.borrow_mut(), &args, resp3.get()))?;
        interpreter.set_call(Some(call))?;
        let result = match program.function {
            None => interpreter.run_script(&program.callback, keys, args),
            Some(_) => interpreter.run_function(&program.callback, keys, args),
        };
        interpreter.set_call(None)?;
        result
    })
}

/// The flags of a script that has any decide before it runs.
fn check_flags(ctx: &SessionContext<'_>, program: &Program<'_>, refuses_writes: bool) -> Result<(), CommandError> {
    let flags = program.flags;
    if program.read_only && !flags.is_legacy && !flags.no_writes {
        return Err(CommandError::fixed("ERR Can not execute a script with write flag using *_ro command."));
    }
    if flags.is_legacy {
        return Ok(());
    }
    let server = ctx.worker.server;
    let is_replica = server.is_replica.load(Ordering::Relaxed) && ctx.worker.config.replica_read_only;
    if is_replica && !refuses_writes && !ctx.session.is_primary_link {
        return Err(CommandError::fixed("READONLY You can not run script with write flag on readonly replica."));
    }
    Ok(())
}

/// redis.call: (true, value) or (false, {err = …}).
fn redis_call(lua: &Lua, run: &mut Run<'_>, args: &MultiValue, is_resp3: bool) -> mlua::Result<(bool, Value)> {
    match try_call(run, args, is_resp3) {
        Ok(()) => {
            let mut at = 0;
            let value = convert::reply_to_lua(lua, run.scratch.as_bytes(), &mut at, is_resp3)?;
            let failed = run.scratch.as_bytes().first() == Some(&b'-');
            Ok((!failed, value))
        }
        Err(error) => {
            let table = lua.create_table()?;
            table.raw_set("err", lua.create_string(error.0.as_bytes())?)?;
            Ok((false, Value::Table(table)))
        }
    }
}

fn try_call(run: &mut Run<'_>, args: &MultiValue, is_resp3: bool) -> Result<(), CommandError> {
    if args.is_empty() {
        return Err(CommandError::fixed("ERR Please specify at least one argument for this redis.call()"));
    }
    let words: Option<Vec<Vec<u8>>> = args.iter().map(bytes_of).collect();
    let words = words.ok_or(CommandError::fixed("ERR Lua redis lib command arguments must be strings or integers"))?;
    let owned = OwnedArgs::new(words.iter().map(Vec::as_slice));
    let args = owned.as_args();
    let entry = dispatch::find_command(run.worker, args).map_err(|error| {
        // Scripts have always been told these two in other words.
        match error.0.split_once(' ').map(|(_, text)| text) {
            Some(text) if text.starts_with("unknown command") => {
                CommandError::fixed("ERR Unknown Redis command called from script")
            }
            Some(text) if text.starts_with("wrong number") => {
                CommandError::fixed("ERR Wrong number of args calling Redis command from script")
            }
            _ => error,
        }
    })?;
    if entry.spec.flags.has(Flags::NOSCRIPT) && !run.worker.server.allow_noscript.load(Ordering::Relaxed) {
        return Err(CommandError::fixed("ERR This Redis command is not allowed from script"));
    }
    if entry.writes || entry.spec.flags.has(Flags::MAY_REPLICATE) {
        if run.refuses_writes {
            return Err(CommandError::fixed("ERR Write commands are not allowed from read-only scripts."));
        }
        run.worker.server.scripts.running.has_written.fetch_or(entry.writes, Ordering::Release);
    }
    run.scratch.buffer_mut().clear();
    run.scratch.set_resp3(is_resp3);
    multi::run_queued(run.worker, run.session, run.locked, entry, args, &mut run.scratch);
    Ok(())
}

/// The error reply for what a script raised.
fn error_of(value: &Value, program: &Program<'_>) -> CommandError {
    let Value::Table(table) = value else { return CommandError::fixed("ERR unknown error") };
    let text = match table.raw_get::<Value>("err") {
        Ok(Value::String(text)) => text.to_string_lossy(),
        _ => "ERR unknown error".into(),
    };
    let name = match program.function {
        Some(name) => name.to_owned(),
        None => String::from_utf8_lossy(&program.sha).into_owned(),
    };
    let place = match (table.raw_get::<Value>("source"), table.raw_get::<Value>("line")) {
        (Ok(Value::String(source)), Ok(line)) => {
            let line = bytes_of(&line).unwrap_or_default();
            format!(", on {}:{}.", source.to_string_lossy(), String::from_utf8_lossy(&line))
        }
        _ => String::new(),
    };
    CommandError::new(format!("{text} script: {name}{place}"))
}

/// SHA1 of a script's text.
pub fn sha_of(body: &[u8]) -> [u8; 40] {
    sha1_hex(body)
}
