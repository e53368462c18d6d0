//! A stack of Lua's: values by their places, counted from 1.
//!
//! ```text
//!   1 … len   values          len + 1 … len + free   places that may be filled without asking
//! ```

use super::{Anchor, look_up, note_fault, push_fault};
use mlua::{Lua, Result, ffi};
use std::ffi::{CStr, c_int};
use std::slice;

/// The stack of a running function, or of nobody (the host's own).
pub struct Stack {
    pub(super) state: *mut ffi::lua_State,
    /// Number of values; Lua's own figure, kept here because every method asks for it.
    len: usize,
    /// Places that are known to be free.
    free: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Nil,
    Boolean,
    Number,
    String,
    Table,
    Function,
    /// Userdata, threads, light pointers.
    Other,
}

/// Where a function was called from.
pub struct Place {
    pub source: Vec<u8>,
    pub line: i64,
    pub is_native: bool,
}

impl Stack {
    /// The stack of the interpreter itself, for the host to call functions.
    pub fn of(lua: &Lua) -> Result<Stack> {
        let mut main = std::ptr::null_mut();
        // SAFETY: the pointer is only remembered; the interpreter lives as long as its `Lua`, which the caller keeps.
        unsafe { lua.exec_raw::<()>((), |state| main = state)? };
        Ok(Stack::at(main, 0))
    }

    pub(super) fn at(state: *mut ffi::lua_State, free: usize) -> Stack {
        // SAFETY: reads.
        let len = unsafe { ffi::lua_gettop(state) as usize };
        Stack { state, len, free }
    }

    /// Looks up every so many instructions, of this and of every coroutine to come.
    pub fn tick_every(&mut self, instructions: u32) {
        // SAFETY: plain setting.
        unsafe { ffi::lua_sethook(self.state, Some(look_up), ffi::LUA_MASKCOUNT, instructions as c_int) };
    }

    /// Looks up at every line from now on: what the host wants to end must not go on in a pcall.
    pub fn interrupt(&mut self) {
        // SAFETY: plain setting.
        unsafe { ffi::lua_sethook(self.state, Some(look_up), ffi::LUA_MASKLINE | ffi::LUA_MASKCOUNT, 1) };
    }

    /// Number of values on the stack; the last one's place.
    #[inline]
    pub fn top(&self) -> usize {
        self.len
    }

    /// Drops everything behind the first `count` values.
    #[inline]
    pub fn truncate(&mut self, count: usize) {
        assert!(count <= self.len, "there are fewer values");
        if count < self.len {
            // SAFETY: the new top lies within the stack.
            unsafe { ffi::lua_settop(self.state, count as c_int) };
            self.len = count;
        }
    }

    #[inline]
    pub(super) fn place(&self, index: usize) -> c_int {
        assert!(index >= 1 && index <= self.top(), "no value at this place");
        index as c_int
    }

    #[inline]
    fn table(&self, index: usize) -> c_int {
        let place = self.place(index);
        // SAFETY: the place holds a value.
        assert!(unsafe { ffi::lua_type(self.state, place) } == ffi::LUA_TTABLE, "not a table");
        place
    }

    /// Makes room for so many values more; false if the stack would become too deep.
    #[inline]
    pub fn reserve(&mut self, count: usize) -> bool {
        if self.free >= count {
            return true;
        }
        // SAFETY: grows the stack. What is granted stays granted while this function runs.
        let is_granted = unsafe { ffi::lua_checkstack(self.state, count as c_int) != 0 };
        if is_granted {
            self.free = count;
        }
        is_granted
    }

    /// Makes room for one value that is about to be pushed.
    #[inline]
    pub(super) fn make_room(&mut self) {
        if self.free == 0 {
            self.make_much_room();
        }
        self.free -= 1;
        self.len += 1;
    }

    #[cold]
    fn make_much_room(&mut self) {
        assert!(self.reserve(20) || self.reserve(1), "the interpreter's stack is full");
    }

    /// Room for what is pushed and popped again.
    pub(super) fn make_room_for_a_while(&mut self) {
        assert!(self.free > 0 || self.reserve(20) || self.reserve(1), "the interpreter's stack is full");
    }

    #[inline]
    pub fn kind(&self, index: usize) -> Kind {
        // SAFETY: the place holds a value.
        match unsafe { ffi::lua_type(self.state, self.place(index)) } {
            ffi::LUA_TNIL => Kind::Nil,
            ffi::LUA_TBOOLEAN => Kind::Boolean,
            ffi::LUA_TNUMBER => Kind::Number,
            ffi::LUA_TSTRING => Kind::String,
            ffi::LUA_TTABLE => Kind::Table,
            ffi::LUA_TFUNCTION => Kind::Function,
            _ => Kind::Other,
        }
    }

    /// The text of a string; other values have none.
    #[inline]
    pub fn string(&self, index: usize) -> Option<&[u8]> {
        if self.kind(index) != Kind::String {
            return None;
        }
        let mut len = 0;
        // SAFETY: a string's bytes stay where they are while it is on the stack, which `&self` keeps as it is.
        unsafe {
            let bytes = ffi::lua_tolstring(self.state, index as c_int, &mut len);
            Some(slice::from_raw_parts(bytes.cast(), len))
        }
    }

    /// A number, or a string that reads as one, as Lua's arithmetic takes it.
    #[inline]
    pub fn number(&self, index: usize) -> Option<f64> {
        let place = self.place(index);
        // SAFETY: the place holds a value; the conversion does not change it.
        unsafe { (ffi::lua_isnumber(self.state, place) != 0).then(|| ffi::lua_tonumber(self.state, place)) }
    }

    /// Everything but nil and false is true.
    pub fn truth(&self, index: usize) -> bool {
        // SAFETY: the place holds a value.
        unsafe { ffi::lua_toboolean(self.state, self.place(index)) != 0 }
    }

    /// The address of a light pointer.
    pub fn pointer(&self, index: usize) -> Option<usize> {
        let place = self.place(index);
        // SAFETY: the place holds a value; the address is only looked at.
        unsafe {
            (ffi::lua_type(self.state, place) == ffi::LUA_TLIGHTUSERDATA)
                .then(|| ffi::lua_touserdata(self.state, place) as usize)
        }
    }

    /// Pushes the metatable of a value; false, and nothing pushed, if it has none.
    pub fn push_metatable(&mut self, index: usize) -> bool {
        let place = self.place(index);
        self.make_room();
        // SAFETY: there is room, and the place holds a value.
        let has = unsafe { ffi::lua_getmetatable(self.state, place) != 0 };
        if !has {
            self.len -= 1;
        }
        has
    }

    pub fn has_metatable(&mut self, index: usize) -> bool {
        let top = self.top();
        let has = self.push_metatable(index);
        self.truncate(top);
        has
    }

    /// Length of a string, or a border of a table without asking its metatable.
    pub fn raw_len(&self, index: usize) -> usize {
        // SAFETY: the place holds a value.
        unsafe { ffi::lua_objlen(self.state, self.place(index)) }
    }

    #[inline]
    pub fn push_nil(&mut self) {
        self.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushnil(self.state) };
    }

    #[inline]
    pub fn push_boolean(&mut self, value: bool) {
        self.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushboolean(self.state, c_int::from(value)) };
    }

    #[inline]
    pub fn push_number(&mut self, value: f64) {
        self.make_room();
        // SAFETY: there is room.
        unsafe { ffi::lua_pushnumber(self.state, value) };
    }

    #[inline]
    pub fn push_string(&mut self, text: &[u8]) {
        self.make_room();
        // SAFETY: there is room; the text is copied.
        unsafe { ffi::lua_pushlstring_(self.state, text.as_ptr().cast(), text.len()) };
    }

    #[inline]
    pub fn push_copy(&mut self, index: usize) {
        let place = self.place(index);
        self.make_room();
        // SAFETY: there is room, and the place holds a value.
        unsafe { ffi::lua_pushvalue(self.state, place) };
    }

    #[inline]
    pub fn push_anchor(&mut self, anchor: &Anchor) {
        self.make_room();
        // SAFETY: there is room; at worst this is nil.
        unsafe { ffi::lua_rawgeti_(self.state, ffi::LUA_REGISTRYINDEX, anchor.0) };
    }

    /// Pushes an empty table with room for so many items and fields.
    #[inline]
    pub fn push_table(&mut self, items: usize, fields: usize) {
        self.make_room();
        // SAFETY: there is room; the sizes are bounded, for they are only advice.
        unsafe { ffi::lua_createtable(self.state, items.min(1 << 20) as c_int, fields.min(1 << 20) as c_int) };
    }

    /// Pushes `{err = "ERR text"}`.
    pub fn push_error(&mut self, text: &[u8]) {
        self.push_table(0, 1);
        let table = self.top();
        self.push_string(b"err");
        self.push_string(&[b"ERR ", text].concat());
        self.set_pair(table);
    }

    /// Pushes what a table holds at a number.
    #[inline]
    pub fn push_item(&mut self, table: usize, item: usize) {
        let place = self.table(table);
        self.make_room();
        // SAFETY: there is room, and the place holds a table.
        unsafe { ffi::lua_rawgeti_(self.state, place, item.min(c_int::MAX as usize) as c_int) };
    }

    /// Pushes what a table holds under a name.
    #[inline]
    pub fn push_field(&mut self, table: usize, name: &[u8]) {
        let place = self.table(table);
        self.push_string(name);
        // SAFETY: the name is on top of the stack, and the place holds a table.
        unsafe { ffi::lua_rawget_(self.state, place) };
    }

    /// Pops a value and puts it into a table at a number.
    #[inline]
    pub fn set_item(&mut self, table: usize, item: usize) {
        let place = self.table(table);
        assert!(self.top() > table, "no value");
        // SAFETY: the value is on top of the stack, and the place below holds a table.
        unsafe { ffi::lua_rawseti_(self.state, place, item as c_int) };
        self.len -= 1;
    }

    /// Pops a value and a key below it and puts them into a table. False if the key can be none (nil, not a number).
    #[inline]
    pub fn set_pair(&mut self, table: usize) -> bool {
        let place = self.table(table);
        assert!(self.top() >= table + 2, "no pair");
        let key = self.top() - 1;
        let is_key = match self.kind(key) {
            Kind::Nil => false,
            Kind::Number => self.number(key).is_some_and(|key| !key.is_nan()),
            _ => true,
        };
        if !is_key {
            self.truncate(key - 1);
            return false;
        }
        // SAFETY: key and value are on top of the stack, the key is one that tables take, and the place below holds a table.
        unsafe { ffi::lua_rawset(self.state, place) };
        self.len -= 2;
        true
    }

    /// Pops a key and pushes the next one with its value; false, and nothing pushed, at the end. Begin with nil. The table must not
    /// gain keys meanwhile.
    #[inline]
    pub fn next(&mut self, table: usize) -> bool {
        let place = self.table(table);
        assert!(self.top() > table, "no key");
        self.make_room();
        // SAFETY: the key is on top of the stack. One that is not in the table raises, which has nothing to clean up.
        let has_more = unsafe { ffi::lua_next(self.state, place) != 0 };
        if !has_more {
            self.len -= 2;
        }
        has_more
    }

    /// Moves the value on top to a place, and what was there and behind it up by one.
    pub fn insert(&mut self, index: usize) {
        let place = self.place(index);
        // SAFETY: the place lies within the stack.
        unsafe { ffi::lua_insert(self.state, place) };
    }

    /// Pops the value on top into a place.
    pub fn replace(&mut self, index: usize) {
        let place = self.place(index);
        assert!(index < self.len, "nothing above");
        // SAFETY: the place lies within the stack, below the top.
        unsafe { ffi::lua_replace(self.state, place) };
        self.len -= 1;
    }

    /// Calls the function below its arguments with an error handler at a place; leaves one result, or the error if false.
    pub fn call(&mut self, args: usize, handler: usize) -> bool {
        assert!(self.top() > args && self.kind(self.top() - args) == Kind::Function, "no function");
        let handler = self.place(handler);
        self.make_room_for_a_while();
        self.len -= args;
        // SAFETY: the function and its arguments are on top of the stack.
        unsafe { ffi::lua_pcall(self.state, args as c_int, 1, handler) == ffi::LUA_OK }
    }

    /// Calls what is below its arguments, whatever it is; leaves all its results, or one error if false.
    pub fn call_all(&mut self, args: usize) -> bool {
        assert!(self.top() > args, "no function");
        self.make_room_for_a_while();
        // SAFETY: the callee and its arguments are on top of the stack; calling what is no function is an error like others.
        let ok = unsafe { ffi::lua_pcall(self.state, args as c_int, ffi::LUA_MULTRET, 0) == ffi::LUA_OK };
        // Its results may have filled any room that there was.
        *self = Stack::at(self.state, 0);
        ok
    }

    /// The function that runs (0), or one of those that called it.
    pub fn caller(&self, level: usize) -> Option<Place> {
        // SAFETY: a Debug record is plain data that `lua_getstack` fills; its texts are zero-terminated and live as long as the
        // function on the stack.
        unsafe {
            let mut debug: ffi::lua_Debug = std::mem::zeroed();
            if ffi::lua_getstack(self.state, level as c_int, &mut debug) == 0
                || ffi::lua_getinfo(self.state, c"Sl".as_ptr(), &mut debug) == 0
            {
                return None;
            }
            Some(Place {
                source: CStr::from_ptr(debug.source).to_bytes().to_vec(),
                line: i64::from(debug.currentline),
                is_native: CStr::from_ptr(debug.what).to_bytes() == b"C",
            })
        }
    }

    /// Pushes a text with the place of the calling function in front, to be raised.
    pub fn push_fault(&mut self, text: &[u8]) {
        self.make_room();
        self.make_room_for_a_while();
        note_fault(text);
        // SAFETY: there is room for two values, one of which stays.
        unsafe { push_fault(self.state) };
    }

    /// Pushes the text of a value as Lua's tostring gives it, without asking its metatable.
    pub fn push_text(&mut self, index: usize) {
        let place = self.place(index);
        if let Some(text) = self.string(place as usize).map(<[u8]>::to_vec) {
            return self.push_string(&text);
        }
        match self.kind(index) {
            Kind::Nil => self.push_string(b"nil"),
            Kind::Boolean => {
                let text: &[u8] = if self.truth(index) { b"true" } else { b"false" };
                self.push_string(text);
            }
            Kind::Number => {
                self.push_copy(index);
                // SAFETY: converts the copy on top of the stack in place.
                unsafe { ffi::lua_tolstring(self.state, -1, std::ptr::null_mut()) };
            }
            kind => {
                // SAFETY: reads an address.
                let address = unsafe { ffi::lua_topointer(self.state, place) };
                let name = match kind {
                    Kind::Table => "table",
                    Kind::Function => "function",
                    _ => "userdata",
                };
                self.push_string(format!("{name}: {address:p}").as_bytes());
            }
        }
    }

    /// Keeps the value at a place in the registry, until `release`.
    pub fn anchor(&mut self, index: usize) -> Anchor {
        self.push_copy(index);
        self.len -= 1;
        // SAFETY: the value is on top of the stack; `luaL_ref` pops it.
        Anchor(unsafe { ffi::luaL_ref(self.state, ffi::LUA_REGISTRYINDEX) })
    }

    /// Forgets a value of the registry.
    pub fn release(&mut self, anchor: Anchor) {
        // SAFETY: an anchor is a place in the registry, and this is the end of it.
        unsafe { ffi::luaL_unref(self.state, ffi::LUA_REGISTRYINDEX, anchor.0) };
    }

    /// The garbage collector begins again when memory has grown to so many per cent of what was in use after it had ended.
    pub fn collect_at(&mut self, percent: u32) {
        // SAFETY: plain setting.
        unsafe { ffi::lua_gc(self.state, ffi::LUA_GCSETPAUSE, percent as c_int) };
    }

    /// Bytes that the interpreter holds.
    pub fn memory(&self) -> usize {
        // SAFETY: reads.
        unsafe {
            let kilobytes = ffi::lua_gc(self.state, ffi::LUA_GCCOUNT, 0) as usize;
            kilobytes * 1024 + ffi::lua_gc(self.state, ffi::LUA_GCCOUNTB, 0) as usize
        }
    }
}
