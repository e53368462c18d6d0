//! What a debugger asks of a running function: its lines as they begin, its frames, its local variables, and code to be run in its
//! midst.

use super::{Stack, ask_host};
use mlua::ffi;
use std::ffi::{CStr, c_char, c_int};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Why a debugger is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A line begins.
    Line,
    /// So many instructions have run.
    Count,
}

/// One of the functions that run; 0 is the innermost.
pub struct Frame {
    /// How the function was called, if that is known.
    pub name: Option<Vec<u8>>,
    /// Name of the chunk, as Lua shows it.
    pub source: Vec<u8>,
    pub line: i64,
}

unsafe extern "C-unwind" fn look_at_line(state: *mut ffi::lua_State, record: *mut ffi::lua_Debug) {
    // SAFETY: Lua hands its record to a hook.
    let event = if unsafe { (*record).event } == ffi::LUA_HOOKCOUNT { Event::Count } else { Event::Line };
    let ended = catch_unwind(AssertUnwindSafe(|| {
        let mut stack = Stack::at(state, 0);
        let top = stack.top();
        let text = ask_host(|host| host.line(&mut stack, event)).flatten();
        stack.truncate(top);
        text.map(|text| stack.push_error(text.as_bytes()))
    }));
    match ended {
        Ok(None) => {}
        // SAFETY: the error is on top of the stack, and nothing of ours is left to drop.
        Ok(Some(())) => unsafe { ffi::lua_error(state) },
        Err(_) => std::process::abort(),
    }
}

impl Stack {
    /// Asks the host before every line, and every so many instructions.
    pub fn watch_lines(&mut self, instructions: u32) {
        let mask = ffi::LUA_MASKLINE | ffi::LUA_MASKCOUNT;
        // SAFETY: plain setting.
        unsafe { ffi::lua_sethook(self.state, Some(look_at_line), mask, instructions as c_int) };
    }

    /// A function that runs, if there are so many.
    pub fn frame(&self, level: usize) -> Option<Frame> {
        let level = c_int::try_from(level).ok()?;
        // SAFETY: a Debug record is plain data that `lua_getstack` fills; its texts are zero-terminated and live as long as the
        // function on the stack.
        unsafe {
            let mut record: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.state, level, &mut record) == 0
                || ffi::lua_getinfo(self.state, c"Snl".as_ptr(), &mut record) == 0
            {
                return None;
            }
            let name = (!record.name.is_null()).then(|| CStr::from_ptr(record.name).to_bytes().to_vec());
            let source = CStr::from_ptr(record.short_src.as_ptr()).to_bytes().to_vec();
            Some(Frame { name, source, line: i64::from(record.currentline) })
        }
    }

    /// Pushes a local variable of a running function, counted from 1; its name, or none, and nothing pushed, behind the last.
    pub fn push_local(&mut self, level: usize, variable: usize) -> Option<Vec<u8>> {
        let (level, variable) = (c_int::try_from(level).ok()?, c_int::try_from(variable).ok()?);
        self.make_room_for_a_while();
        // SAFETY: there is room for the value; the record is filled before it is used, and the name is copied at once.
        let name = unsafe {
            let mut record: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.state, level, &mut record) == 0 {
                return None;
            }
            let name = ffi::lua_getlocal(self.state, &record, variable);
            (!name.is_null()).then(|| CStr::from_ptr(name).to_bytes().to_vec())
        };
        *self = Stack::at(self.state, 0);
        name
    }

    /// Compiles a text and pushes its function, or the text of the error if false. Precompiled code is refused.
    pub fn push_chunk(&mut self, text: &[u8], name: &CStr) -> bool {
        self.make_room_for_a_while();
        if text.first() == Some(&ffi::LUA_SIGNATURE[0]) {
            self.push_string(b"attempt to load binary code");
            return false;
        }
        // SAFETY: there is room for the one value that this pushes; text and name live until it returns.
        let is_loaded = unsafe {
            ffi::luaL_loadbuffer(self.state, text.as_ptr().cast::<c_char>(), text.len(), name.as_ptr()) == ffi::LUA_OK
        };
        *self = Stack::at(self.state, 0);
        is_loaded
    }

    /// The address of a function, userdata or thread, and its kind as a debugger shows it.
    pub fn identity(&self, index: usize) -> (&'static str, usize) {
        let place = self.place(index);
        // SAFETY: the place holds a value, which is only looked at.
        let (kind, address) =
            unsafe { (ffi::lua_type(self.state, place), ffi::lua_topointer(self.state, place) as usize) };
        let name = match kind {
            ffi::LUA_TFUNCTION => "function",
            ffi::LUA_TTHREAD => "thread",
            ffi::LUA_TLIGHTUSERDATA => "light-userdata",
            _ => "userdata",
        };
        (name, address)
    }
}
