//! One interpreter per worker thread: Lua 5.1 with the libraries that Redis gives its scripts, and a sandbox around them.
//!
//! Scripts see their globals through a proxy that refuses writes, and so are `redis`, `cjson` and the like
//! (`prelude.lua`). What `redis.call` does depends on who runs a script just now: it goes through `host.call`, a slot that
//! each run fills with a function of its own; so a library may keep `redis.call` in a local for ever.

use super::api;
use super::{cjson, cmsgpack, libraries};
use crate::base::clock;
use crate::server::Server;
use crate::server::scripts::Sha;
use mlua::{Function, HookTriggers, Lua, LuaOptions, Result, StdLib, Table, Value, VmState};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::atomic::Ordering;

/// Instructions between two looks at the clock and at SCRIPT KILL.
const HOOK_INSTRUCTIONS: u32 = 10_000;
/// Scripts between two steps of the garbage collector that are forced on it.
const GC_EVERY: u32 = 50;

/// A function of a library, as registered with this interpreter.
#[derive(Clone)]
pub struct Registered {
    pub callback: Function,
    pub flags: super::flags::ScriptFlags,
}

pub struct Interpreter {
    pub lua: Lua,
    /// The globals that scripts see; KEYS and ARGV are set here.
    real: Table,
    globals: Table,
    host: Table,
    run: Function,
    run_function: Function,
    handler: Function,
    /// Compiled EVAL scripts.
    compiled: RefCell<HashMap<Sha, Function>>,
    pub functions: RefCell<HashMap<String, Registered>>,
    generation: Cell<u64>,
    runs: Cell<u32>,
    /// redis.setresp of the running script.
    pub resp3: Rc<Cell<bool>>,
}

thread_local! {
    static INTERPRETER: RefCell<Option<Rc<Interpreter>>> = const { RefCell::new(None) };
}

/// The interpreter of this thread, made at first use and again after SCRIPT FLUSH or a change of the libraries.
pub fn of_thread(server: &'static Server) -> Result<Rc<Interpreter>> {
    INTERPRETER.with(|slot| {
        let mut slot = slot.borrow_mut();
        let generation = server.scripts.generation();
        if let Some(interpreter) = slot.as_ref().filter(|interpreter| interpreter.generation.get() == generation) {
            return Ok(Rc::clone(interpreter));
        }
        let interpreter = Rc::new(Interpreter::new(server)?);
        for library in server.scripts.libraries().values() {
            super::functions::load_into(&interpreter, library)?;
        }
        interpreter.generation.set(generation);
        *slot = Some(Rc::clone(&interpreter));
        Ok(interpreter)
    })
}

impl Interpreter {
    pub fn new(server: &'static Server) -> Result<Self> {
        let libs = StdLib::TABLE | StdLib::STRING | StdLib::MATH | StdLib::OS;
        let lua = Lua::new_with(libs, LuaOptions::default())?;
        let real = lua.create_table()?;
        let resp3 = Rc::new(Cell::new(false));
        copy_builtins(&lua, &real)?;
        libraries::install(&lua, &real)?;
        real.raw_set("cjson", cjson::table(&lua)?)?;
        real.raw_set("cmsgpack", cmsgpack::table(&lua)?)?;
        let host = lua.create_table()?;
        host.raw_set("api", api::table(&lua, &resp3)?)?;
        host.raw_set("call", lua.create_function(|_, ()| api::outside_a_script())?)?;
        host.raw_set("text", lua.create_function(|_, value: Value| value.to_string())?)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("=prelude");
        let (globals, run, run_function) = prelude.call((host.clone(), real.clone()))?;
        lua.set_globals(Table::clone(&globals))?;
        lua.set_hook(HookTriggers::new().every_nth_instruction(HOOK_INSTRUCTIONS), move |_, _| look_up(server))?;
        let handler = lua.create_function(|lua, error: Value| api::locate_error(lua, error))?;
        Ok(Interpreter {
            lua,
            real,
            globals,
            host,
            run,
            run_function,
            handler,
            compiled: RefCell::default(),
            functions: RefCell::default(),
            generation: Cell::new(0),
            runs: Cell::new(0),
            resp3,
        })
    }

    /// The compiled form of a script, made at first use. The error is Lua's text.
    pub fn compile(&self, sha: &Sha, text: &[u8]) -> std::result::Result<Function, String> {
        if let Some(script) = self.compiled.borrow().get(sha) {
            return Ok(script.clone());
        }
        let script = self.load(text, "@user_script")?;
        self.compiled.borrow_mut().insert(*sha, script.clone());
        Ok(script)
    }

    pub fn load(&self, text: &[u8], name: &str) -> std::result::Result<Function, String> {
        let chunk = self.lua.load(text).set_name(name).set_mode(mlua::chunk::ChunkMode::Text);
        chunk.set_environment(self.globals.clone()).into_function().map_err(|error| match error {
            mlua::Error::SyntaxError { message, .. } => message,
            other => other.to_string(),
        })
    }

    /// Runs a compiled script. (true, result) or (false, error).
    pub fn run_script(&self, script: &Function, keys: Table, args: Table) -> Result<(bool, Value)> {
        self.real.raw_set("KEYS", keys)?;
        self.real.raw_set("ARGV", args)?;
        let result = self.run.call((script, &self.handler));
        self.real.raw_set("KEYS", Value::Nil)?;
        self.real.raw_set("ARGV", Value::Nil)?;
        self.collect_garbage()?;
        result
    }

    /// Runs a chunk that takes nothing, under the error handler.
    pub fn run_protected(&self, chunk: &Function) -> Result<(bool, Value)> {
        self.run.call((chunk, &self.handler))
    }

    pub fn run_function(&self, callback: &Function, keys: Table, args: Table) -> Result<(bool, Value)> {
        let result = self.run_function.call((callback, &self.handler, keys, args));
        self.collect_garbage()?;
        result
    }

    /// Fills the slot behind redis.call, or empties it (nothing).
    pub fn set_call(&self, call: Option<Function>) -> Result<()> {
        match call {
            Some(call) => self.host.raw_set("call", call),
            None => self.host.raw_set("call", self.lua.create_function(|_, ()| api::outside_a_script())?),
        }
    }

    /// What only a library that is being loaded may call.
    pub fn set_register_function(&self, register: Value) -> Result<()> {
        let api: Table = self.host.raw_get("api")?;
        api.raw_set("register_function", register)
    }

    fn collect_garbage(&self) -> Result<()> {
        self.runs.set(self.runs.get() + 1);
        if self.runs.get() >= GC_EVERY {
            self.runs.set(0);
            self.lua.gc_step()?;
        }
        Ok(())
    }
}

/// The hook of a running script: notices that it has become busy, and ends it when it is to be killed.
fn look_up(server: &'static Server) -> Result<VmState> {
    let running = &server.scripts.running;
    let started = running.started_ms.load(Ordering::Relaxed);
    if started == 0 {
        return Ok(VmState::Continue);
    }
    if running.kill.load(Ordering::Acquire) {
        let what = if running.is_function.load(Ordering::Relaxed) { "FUNCTION" } else { "SCRIPT" };
        return Err(mlua::Error::RuntimeError(format!(
            "Error running script: Script killed by user with {what} KILL."
        )));
    }
    let threshold = server.config.current().busy_reply_threshold as i64;
    let elapsed = clock::unix_ms() - started;
    if threshold > 0 && elapsed >= threshold && !running.is_busy.swap(true, Ordering::AcqRel) {
        tracing::warn!(
            "Slow script detected: still in execution after {elapsed} milliseconds. You can try killing the script using the {} command.",
            if running.is_function.load(Ordering::Relaxed) { "FUNCTION KILL" } else { "SCRIPT KILL" }
        );
    }
    if running.is_busy.load(Ordering::Relaxed) {
        server.serve_while_busy();
    }
    Ok(VmState::Continue)
}

/// The functions of the base library that Redis leaves to scripts, and of `os` only the clock.
fn copy_builtins(lua: &Lua, real: &Table) -> Result<()> {
    const NAMES: &[&str] = &[
        "xpcall",
        "tostring",
        "getmetatable",
        "setmetatable",
        "next",
        "assert",
        "tonumber",
        "rawequal",
        "rawset",
        "rawget",
        "collectgarbage",
        "pcall",
        "type",
        "select",
        "unpack",
        "gcinfo",
        "loadstring",
        "ipairs",
        "pairs",
        "_VERSION",
        "setfenv",
        "getfenv",
        "load",
        "error",
        "newproxy",
        "string",
        "table",
        "math",
        "coroutine",
    ];
    let globals = lua.globals();
    for name in NAMES {
        let value: Value = globals.raw_get(*name)?;
        if !value.is_nil() {
            real.raw_set(*name, value)?;
        }
    }
    let os = lua.create_table()?;
    os.raw_set("clock", globals.raw_get::<Table>("os")?.raw_get::<Value>("clock")?)?;
    real.raw_set("os", os)
}
