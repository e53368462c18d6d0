//! Interpreters: Lua 5.1 with the libraries that Redis gives its scripts, and a sandbox around them. Every worker thread has one
//! for EVAL and one for functions, each made at first use.
//!
//! Scripts see their globals through a proxy that refuses writes, and so are `redis`, `cjson` and the like (`prelude.lua`). What
//! `redis.call` does depends on who runs a script just now: the host of the thread (`engine::lua`).

use super::api;
use super::flags::{self, ScriptFlags};
use super::{cjson, cmsgpack, foresight, libraries};
use crate::commands::error::CommandError;
use crate::engine::lua::{self, Anchor, Host, Stack};
use crate::resp::{Args, Range, Reply};
use crate::server::Server;
use crate::server::scripts::Sha;
use bytes::Bytes;
use mlua::{Function, Lua, LuaOptions, StdLib, Table, Value};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::CStr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Instructions between two looks at the clock and at SCRIPT KILL.
const TICK_INSTRUCTIONS: u32 = 20_000;
/// Scripts between two reckonings of the interpreter's memory.
const REPORT_EVERY: u32 = 64;
/// Garbage is collected when it is two thirds of what is in use: a collection has to look at all of the latter, mostly what the
/// interpreter is born with, and small scripts leave little.
const COLLECT_AT_PERCENT: u32 = 170;
/// Compiled scripts that an interpreter keeps before it looks which of them are still cached.
const COMPILED_MAX: usize = 1000;

/// What an interpreter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Eval,
    Functions,
}

/// A script or function that can be called.
pub struct Compiled {
    pub callable: Anchor,
    pub flags: ScriptFlags,
    pub reach: Cell<Reach>,
}

/// The shards that a script is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of the keys that it is called with: it has promised to touch no others, or nobody can see how it would.
    Keys,
    /// It may touch any key, or was seen to touch one that it had not declared.
    Everything,
}

/// A script of EVAL.
pub struct Script {
    pub sha: Sha,
    pub body: Bytes,
    pub compiled: Rc<Compiled>,
    /// Number of evictions from the cache when this one was last seen in it.
    pub seen_at: Cell<u64>,
}

/// Buffers of redis.call, kept from run to run.
#[derive(Default)]
pub struct Scratch {
    pub words: Vec<u8>,
    pub ranges: Vec<Range>,
    pub reply: Reply,
}

pub struct Interpreter {
    lua: Lua,
    stack: RefCell<Stack>,
    /// Shows a library that is being loaded (true) nothing but its `redis`.
    switch: Function,
    scripts: RefCell<HashMap<Bytes, Rc<Script>, ahash::RandomState>>,
    by_sha: RefCell<HashMap<Sha, Rc<Script>, ahash::RandomState>>,
    /// Number of compiled scripts at which those are dropped that the cache no longer has.
    forget_at: Cell<usize>,
    pub functions: RefCell<HashMap<Vec<u8>, Rc<Compiled>>>,
    generation: Cell<u64>,
    runs: Cell<u32>,
    pub scratch: RefCell<Scratch>,
    /// redis.setresp of the running script.
    pub resp3: Cell<bool>,
    server: &'static Server,
    purpose: Purpose,
    /// What INFO is told of its memory.
    bytes: Arc<AtomicU64>,
}

thread_local! {
    static EVAL: RefCell<Option<Rc<Interpreter>>> = const { RefCell::new(None) };
    static FUNCTIONS: RefCell<Option<Rc<Interpreter>>> = const { RefCell::new(None) };
}

/// This thread's interpreter of EVAL, made at first use and again after SCRIPT FLUSH.
pub fn for_eval(server: &'static Server) -> Result<Rc<Interpreter>, CommandError> {
    EVAL.with_borrow_mut(|slot| {
        let generation = server.scripts.flushes();
        if let Some(interpreter) = slot.as_ref().filter(|interpreter| interpreter.generation.get() == generation) {
            return Ok(Rc::clone(interpreter));
        }
        *slot = None;
        let interpreter = Rc::new(Interpreter::new(server, Purpose::Eval)?);
        interpreter.generation.set(generation);
        *slot = Some(Rc::clone(&interpreter));
        Ok(interpreter)
    })
}

/// This thread's interpreter of functions, with all libraries loaded.
pub fn for_functions(server: &'static Server) -> Result<Rc<Interpreter>, CommandError> {
    FUNCTIONS.with_borrow_mut(|slot| {
        let generation = server.scripts.generation();
        if let Some(interpreter) = slot.as_ref().filter(|interpreter| interpreter.generation.get() == generation) {
            return Ok(Rc::clone(interpreter));
        }
        *slot = None;
        let interpreter = Rc::new(Interpreter::new(server, Purpose::Functions)?);
        for library in server.scripts.libraries().values() {
            super::functions::load_into(&interpreter, library)?;
        }
        interpreter.generation.set(generation);
        interpreter.report();
        *slot = Some(Rc::clone(&interpreter));
        Ok(interpreter)
    })
}

impl Interpreter {
    pub fn new(server: &'static Server, purpose: Purpose) -> Result<Self, CommandError> {
        Self::build(server, purpose).map_err(|error| CommandError::new(format!("ERR {error}")))
    }

    fn build(server: &'static Server, purpose: Purpose) -> mlua::Result<Self> {
        let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS;
        let lua = Lua::new_with(libs, LuaOptions::default())?;
        let real = lua.create_table()?;
        let host = lua.create_table()?;
        for (name, builtin) in api::BASE {
            host.raw_set(*name, lua::function(&lua, *builtin)?)?;
        }
        copy_builtins(&lua, &real, server.config.current().lua_enable_deprecated_api)?;
        real.raw_set("pcall", host.raw_get::<Value>("pcall")?)?;
        real.raw_set("unpack", host.raw_get::<Value>("unpack")?)?;
        libraries::install(&lua, &real)?;
        real.raw_set("cjson", cjson::table(&lua)?)?;
        real.raw_set("cmsgpack", cmsgpack::table(&lua)?)?;
        let tables = (api::table(&lua, purpose == Purpose::Eval)?, api::loading_table(&lua)?);
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=prelude");
        let (globals, switch): (Table, Function) = prelude.call((host.clone(), real.clone(), tables.0, tables.1))?;
        lua.set_globals(globals)?;
        // What making all this has left behind.
        lua.gc_collect()?;
        let mut stack = Stack::of(&lua)?;
        stack.collect_at(COLLECT_AT_PERCENT);
        push_base(&mut stack, &lua::anchor(&lua, host.raw_get::<Value>("locate")?)?, &lua::anchor(&lua, real)?);
        let interpreter = Interpreter {
            stack: RefCell::new(stack),
            switch,
            scripts: RefCell::default(),
            by_sha: RefCell::default(),
            forget_at: Cell::new(COMPILED_MAX),
            functions: RefCell::default(),
            generation: Cell::new(0),
            runs: Cell::new(0),
            scratch: RefCell::default(),
            resp3: Cell::new(false),
            server,
            purpose,
            bytes: match purpose {
                Purpose::Eval => server.scripts.eval_bytes.add_interpreter(),
                Purpose::Functions => server.scripts.function_bytes.add_interpreter(),
            },
            lua,
        };
        interpreter.report();
        Ok(interpreter)
    }

    /// The script of EVAL with this text, compiled at first use.
    pub fn script(&self, body: &[u8]) -> Result<Rc<Script>, CommandError> {
        if let Some(script) = self.scripts.borrow().get(body) {
            return Ok(Rc::clone(script));
        }
        self.compile(super::run::sha_of(body), Bytes::copy_from_slice(body))
    }

    /// The script with this SHA1, if this interpreter has it.
    pub fn script_by_sha(&self, sha: &Sha) -> Option<Rc<Script>> {
        self.by_sha.borrow().get(sha).map(Rc::clone)
    }

    /// Compiles a script that this interpreter has not.
    pub fn compile(&self, sha: Sha, body: Bytes) -> Result<Rc<Script>, CommandError> {
        let (flags, text) = flags::of_script(&body)?;
        let chunk = self
            .load(text, c"@user_script")
            .map_err(|error| CommandError::joined(&[b"ERR Error compiling script (new function): ", &error]))?;
        let stays = !flags.allow_cross_slot_keys || foresight::keeps_to_its_keys(&chunk.dump(true), self.server.table);
        let reach = Cell::new(if stays { Reach::Keys } else { Reach::Everything });
        let callable = lua::anchor(&self.lua, chunk).map_err(|error| CommandError::new(format!("ERR {error}")))?;
        let compiled = Rc::new(Compiled { callable, flags, reach });
        let script = Rc::new(Script { sha, body: body.clone(), compiled, seen_at: Cell::new(u64::MAX) });
        if self.by_sha.borrow().len() >= self.forget_at.get() {
            self.forget_evicted();
            // Those that were loaded stay for good: looking through all of them at each new one would take ever longer.
            self.forget_at.set(COMPILED_MAX.max(2 * self.by_sha.borrow().len()));
        }
        self.by_sha.borrow_mut().insert(sha, Rc::clone(&script));
        self.scripts.borrow_mut().insert(body, Rc::clone(&script));
        Ok(script)
    }

    /// Drops the compiled forms of scripts that the cache no longer has.
    fn forget_evicted(&self) {
        let mut gone = Vec::new();
        self.by_sha.borrow_mut().retain(|sha, script| {
            let stays = self.server.scripts.find(sha).is_some();
            if !stays {
                gone.push(Rc::clone(script));
            }
            stays
        });
        let mut scripts = self.scripts.borrow_mut();
        let mut stack = self.stack.borrow_mut();
        for script in gone {
            scripts.remove(&script.body);
            // One that somebody still holds is left to the interpreter's end.
            if let Some(compiled) = Rc::into_inner(script).and_then(|script| Rc::into_inner(script.compiled)) {
                stack.release(compiled.callable);
            }
        }
    }

    /// The error is the text of it.
    pub fn load(&self, text: &[u8], name: &CStr) -> Result<Function, Vec<u8>> {
        let chunk = self.lua.load(text).set_name(name.to_string_lossy()).set_mode(mlua::chunk::ChunkMode::Text);
        chunk.into_function().map_err(|error| match error {
            mlua::Error::SyntaxError { message, .. } => self.fault_of(text, name).unwrap_or(message.into_bytes()),
            other => other.to_string().into_bytes(),
        })
    }

    /// What is wrong with a text that does not compile, in Lua's own bytes: it may quote what is no UTF-8.
    fn fault_of(&self, text: &[u8], name: &CStr) -> Option<Vec<u8>> {
        let mut stack = self.stack.borrow_mut();
        let base = stack.top();
        let is_legal = stack.push_chunk(text, name);
        let fault = stack.string(base + 1).map(<[u8]>::to_vec);
        stack.truncate(base);
        fault.filter(|_| !is_legal)
    }

    /// Runs a library's code while `host` collects what it registers. The error is the text of what was raised.
    pub fn load_library(&self, chunk: Function, host: &mut dyn Host) -> Result<(), Vec<u8>> {
        let fail = |error: mlua::Error| error.to_string().into_bytes();
        let chunk = lua::anchor(&self.lua, chunk).map_err(fail)?;
        self.switch.call::<()>(true).map_err(fail)?;
        let mut stack = self.stack.borrow_mut();
        let base = stack.top();
        stack.tick_every(TICK_INSTRUCTIONS);
        stack.push_anchor(&chunk);
        let ok = lua::with_host(host, || stack.call_all(0));
        let mut text = Vec::new();
        if !ok {
            if stack.kind(base + 1) == lua::Kind::Table {
                stack.push_field(base + 1, b"err");
            } else {
                text.extend(b"ERR ");
                stack.push_text(base + 1);
            }
            text.extend(stack.string(base + 2).unwrap_or(b"unknown error"));
        }
        stack.truncate(base);
        stack.release(chunk);
        drop(stack);
        self.switch.call::<()>(false).map_err(fail)?;
        if ok { Ok(()) } else { Err(text) }
    }

    /// Calls a script or function for `host`; `finish` gets the stack with the result (true) or the error on top.
    pub fn run<T>(
        &self,
        callable: &Anchor,
        keys: Args<'_>,
        args: Args<'_>,
        host: &mut dyn Host,
        finish: impl FnOnce(&mut Stack, bool) -> T,
    ) -> T {
        let mut stack = self.stack.borrow_mut();
        let base = stack.top();
        if host.watches_lines() {
            stack.watch_lines(TICK_INSTRUCTIONS);
        } else {
            stack.tick_every(TICK_INSTRUCTIONS);
        }
        let given = match self.purpose {
            Purpose::Eval => {
                for (name, list) in [(KEYS_NAME, keys), (ARGV_NAME, args)] {
                    stack.push_copy(name);
                    push_list(&mut stack, list);
                    stack.set_pair(GLOBALS);
                }
                stack.push_anchor(callable);
                0
            }
            Purpose::Functions => {
                stack.push_anchor(callable);
                push_list(&mut stack, keys);
                push_list(&mut stack, args);
                2
            }
        };
        let ok = lua::with_host(host, || stack.call(given, HANDLER));
        let result = finish(&mut stack, ok);
        stack.truncate(base);
        if self.runs.replace(self.runs.get().wrapping_add(1)).is_multiple_of(REPORT_EVERY) {
            self.bytes.store(stack.memory() as u64, Ordering::Relaxed);
        }
        result
    }

    fn report(&self) {
        self.bytes.store(self.stack.borrow().memory() as u64, Ordering::Relaxed);
    }
}

/// What every run needs stays at the bottom of the host's stack: taking it from there is the cheapest way.
fn push_base(stack: &mut Stack, handler: &Anchor, globals: &Anchor) {
    stack.push_anchor(handler);
    stack.push_anchor(globals);
    stack.push_string(b"KEYS");
    stack.push_string(b"ARGV");
}

/// Places of that: the error handler, the globals that scripts see (KEYS and ARGV are set there), and the names of the two.
const HANDLER: usize = 1;
const GLOBALS: usize = 2;
const KEYS_NAME: usize = 3;
const ARGV_NAME: usize = 4;

fn push_list(stack: &mut Stack, list: Args<'_>) {
    stack.push_table(list.len(), 0);
    let table = stack.top();
    for (index, arg) in list.iter().enumerate() {
        stack.push_string(arg);
        stack.set_item(table, index + 1);
    }
}

/// The functions of the base library that Redis leaves to scripts, and of `os` only the clock.
fn copy_builtins(lua: &Lua, real: &Table, deprecated: bool) -> mlua::Result<()> {
    const NAMES: &[&str] = &[
        "xpcall",
        "tostring",
        "next",
        "assert",
        "tonumber",
        "rawequal",
        "collectgarbage",
        "type",
        "select",
        "gcinfo",
        "_VERSION",
        "error",
    ];
    const TABLES: &[&str] = &["string", "table", "math", "coroutine"];
    const DEPRECATED: &[&str] = &["newproxy", "setfenv", "getfenv"];
    let globals = lua.globals();
    let deprecated = if deprecated { DEPRECATED } else { &[] };
    for name in NAMES.iter().chain(TABLES).chain(deprecated) {
        let value: Value = globals.raw_get(*name)?;
        if !value.is_nil() {
            real.raw_set(*name, value)?;
        }
    }
    let os = lua.create_table()?;
    os.raw_set("clock", globals.raw_get::<Table>("os")?.raw_get::<Value>("clock")?)?;
    real.raw_set("os", os)
}
