//! The short way between Lua and Rust: Lua's own stack, without a handle for every value.
//!
//! mlua's safe values cost an entry in a table of references each, which is more than a whole `redis.call` may cost. Here a value
//! is a place on the stack of the running function:
//!
//! ```text
//!   Lua calls f(a, b)   1: a   2: b            Rust pushes its results behind them and says how many they are
//! ```
//! Every method checks its index and the kind of what is there, and makes room before it pushes; so no use of them can corrupt the
//! interpreter. Places are counted from 1. Functions made here are called by Lua as C functions: they stand in its backtrace.
//!
//! Lua raises errors by jumping over the frames in between. The only calls here that may do so are those that allocate, when
//! memory has run out; no frame of ours that they jump over has anything to clean up that matters then.

pub mod bytecode;
mod inspect;
mod stack;

pub use inspect::{Event, Frame};
pub use stack::{Kind, Place, Stack};

use mlua::ffi;
use mlua::{Function, IntoLua, Lua, Result};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// How a function of ours ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With so many results on top of the stack.
    Return(usize),
    /// By raising what is on top.
    Raise,
}

/// Places that a builtin may fill without asking.
const BUILTIN_ROOM: c_int = 40;

/// A function of ours that Lua may call.
pub type Builtin = fn(&mut Stack) -> Outcome;

/// A value kept in the registry.
pub struct Anchor(c_int);

/// Who runs Lua just now, as its functions and its hook see it.
pub trait Host {
    /// redis.call (`raises`) and redis.pcall.
    fn call(&mut self, stack: &mut Stack, raises: bool) -> Outcome;
    /// Anything else that a function wants of the host.
    fn ask(&mut self, question: Question, stack: &mut Stack) -> Outcome;
    /// Every so many instructions. A text ends the script with it.
    fn tick(&mut self) -> Option<&'static str>;
    /// Whether a debugger wants to be asked before every line.
    fn watches_lines(&self) -> bool {
        false
    }
    /// A text is raised as an error.
    fn line(&mut self, _stack: &mut Stack, _event: Event) -> Option<String> {
        None
    }
    /// A function of ours has made an error.
    fn note_error(&mut self, _text: &[u8]) {}
}

/// What functions ask the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    SetResp,
    SetRepl,
    MayCall,
    Random,
    RandomSeed,
    Register,
    Breakpoint,
    Debug,
}

thread_local! {
    static HOST: Cell<Option<*mut (dyn Host + 'static)>> = const { Cell::new(None) };
}

/// Makes `host` the host of this thread's interpreters while `work` runs.
pub fn with_host<T>(host: &mut (dyn Host + '_), work: impl FnOnce() -> T) -> T {
    struct Restore(Option<*mut (dyn Host + 'static)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            HOST.set(self.0);
        }
    }
    let pointer: *mut (dyn Host + '_) = host;
    // SAFETY: only the lifetime is forgotten. The pointer is taken away again before this function, which borrows the host for as
    // long as it runs, returns.
    let pointer = unsafe { std::mem::transmute::<*mut (dyn Host + '_), *mut (dyn Host + 'static)>(pointer) };
    let _restore = Restore(HOST.replace(Some(pointer)));
    work()
}

/// Lends the host, if there is one and it is not lent already (a function that runs inside `tick` or `call`).
pub fn ask_host<T>(work: impl FnOnce(&mut dyn Host) -> T) -> Option<T> {
    let pointer = HOST.take()?;
    // SAFETY: `with_host` keeps the host alive and borrowed, and while the slot is empty nobody else gets at it.
    let result = work(unsafe { &mut *pointer });
    HOST.set(Some(pointer));
    Some(result)
}

/// Makes a function of ours one of Lua's.
pub fn function(lua: &Lua, builtin: Builtin) -> Result<Function> {
    // SAFETY: pushes one closure, which `exec_raw` has made room for; its upvalue is the address of a function.
    unsafe {
        lua.exec_raw((), |state| {
            ffi::lua_pushlightuserdata(state, builtin as *mut c_void);
            ffi::lua_pushcclosure(state, enter, 1);
        })
    }
}

/// A function of mlua's whose errors become texts with the place of the caller in front, as those of Lua's own libraries are. The
/// text comes from `fault`, to which whoever makes such an error has told it.
pub fn guarded(lua: &Lua, inner: Function) -> Result<Function> {
    // SAFETY: the function is on top of the stack and becomes the closure's upvalue.
    unsafe { lua.exec_raw(inner, |state| ffi::lua_pushcclosure(state, guard, 1)) }
}

thread_local! {
    static FAULT: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// Tells `guarded` what the error that is about to be returned says.
pub fn note_fault(text: &[u8]) {
    FAULT.set(Some(text.to_vec()));
}

/// Keeps a value in the registry until `Stack::release`.
pub fn anchor(lua: &Lua, value: impl IntoLua) -> Result<Anchor> {
    let mut place = 0;
    // SAFETY: the value is on top of the stack; `luaL_ref` pops it.
    unsafe { lua.exec_raw::<()>(value.into_lua(lua)?, |state| place = ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX))? };
    Ok(Anchor(place))
}

unsafe extern "C-unwind" fn enter(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: only `function` makes closures of this, with such an upvalue; scripts cannot change upvalues.
    let builtin = unsafe {
        let address = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1));
        std::mem::transmute::<*mut c_void, Builtin>(address)
    };
    // SAFETY: grows the stack, or leaves it: with thousands of arguments there are only the places that every function gets.
    let free = if unsafe { ffi::lua_checkstack(state, BUILTIN_ROOM) } != 0 { BUILTIN_ROOM } else { ffi::LUA_MINSTACK };
    // A panic must not unwind through Lua's frames.
    let outcome = catch_unwind(AssertUnwindSafe(|| builtin(&mut Stack::at(state, free as usize))));
    match outcome {
        Ok(Outcome::Return(count)) => count as c_int,
        // SAFETY: nothing of ours is left to drop in this frame.
        Ok(Outcome::Raise) => unsafe { ffi::lua_error(state) },
        Err(_) => std::process::abort(),
    }
}

unsafe extern "C-unwind" fn guard(state: *mut ffi::lua_State) -> c_int {
    // SAFETY: the usual dance of a C function: the upvalue is called with all arguments; Lua guarantees 20 free places.
    unsafe {
        let args = ffi::lua_gettop(state);
        ffi::lua_checkstack(state, 4);
        ffi::lua_pushvalue(state, ffi::lua_upvalueindex(1));
        ffi::lua_insert(state, 1);
        if ffi::lua_pcall(state, args, ffi::LUA_MULTRET, 0) == ffi::LUA_OK {
            return ffi::lua_gettop(state);
        }
        if ffi::lua_type(state, -1) == ffi::LUA_TUSERDATA {
            push_fault(state);
        }
        ffi::lua_error(state)
    }
}

/// Pushes the text of the last fault with the place of the caller in front.
// SAFETY: to be called with a live state that has room for two values.
unsafe fn push_fault(state: *mut ffi::lua_State) {
    // SAFETY: as in `guard`; the string is dropped before anybody raises.
    unsafe {
        let text = FAULT.take();
        ffi::luaL_where(state, 1);
        match &text {
            Some(text) => ffi::lua_pushlstring_(state, text.as_ptr().cast(), text.len()),
            // An error that mlua has made by itself; it stands below the place.
            None => drop(ffi::luaL_tolstring(state, -2, std::ptr::null_mut())),
        }
        ffi::lua_concat(state, 2);
    }
}

unsafe extern "C-unwind" fn look_up(state: *mut ffi::lua_State, _: *mut ffi::lua_Debug) {
    let ended = catch_unwind(AssertUnwindSafe(|| ask_host(|host| host.tick()).flatten()));
    let text = match ended {
        Ok(None) => return,
        Ok(Some(text)) => text,
        Err(_) => std::process::abort(),
    };
    let mut stack = Stack::at(state, 0);
    stack.push_error(text.as_bytes());
    // From now on every line raises, so that no pcall of the script can go on for long.
    stack.interrupt();
    // SAFETY: the hook may raise.
    unsafe { ffi::lua_error(state) }
}
