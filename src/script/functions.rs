//! Function libraries: loading their code, and what `redis.register_function` leaves behind
//! (redis.io, "Redis functions").

use super::api::raise;
use super::flags::{self, ScriptFlags};
use super::interpreter::{Compiled, Interpreter, Purpose, Reach};
use crate::base::{clock, quoting};
use crate::commands::error::CommandError;
use crate::engine::lua::{Anchor, Host, Kind, Outcome, Question, Stack};
use crate::server::Server;
use crate::server::scripts::{FunctionInfo, Library};
use bytes::Bytes;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What loading a library may take: it only has to register functions.
const LOAD_TIMEOUT_MS: i64 = 500;

/// A function as it was registered.
struct Declared {
    info: FunctionInfo,
    callback: Anchor,
    flags: ScriptFlags,
}

/// The host of a library that is being loaded.
struct Loader {
    declared: Vec<Declared>,
    started_ms: i64,
    has_limit: bool,
}

/// Compiles a library's code in an interpreter of its own, so that a bad one leaves nothing behind.
pub fn compile(server: &'static Server, code: &Bytes) -> Result<Library, CommandError> {
    compile_within(server, code, true)
}

/// The same, with or without a limit of time; what the primary has loaded must be loaded.
pub fn compile_within(server: &'static Server, code: &Bytes, has_limit: bool) -> Result<Library, CommandError> {
    let name = name_of(code)?;
    let interpreter = Interpreter::new(server, Purpose::Functions)?;
    let functions = declare(&interpreter, code, has_limit)?;
    if functions.is_empty() {
        return Err(CommandError::fixed("ERR No functions registered"));
    }
    Ok(Library { name, code: code.clone(), functions: functions.into_iter().map(|declared| declared.info).collect() })
}

/// Makes the functions of a library callable in an interpreter.
pub fn load_into(interpreter: &Interpreter, library: &Library) -> Result<(), CommandError> {
    let declared = declare(interpreter, &library.code, false)?;
    let mut functions = interpreter.functions.borrow_mut();
    for function in declared {
        let reach = if function.flags.allow_cross_slot_keys { Reach::Everything } else { Reach::Keys };
        let compiled = Compiled { callable: function.callback, flags: function.flags, reach: Cell::new(reach) };
        functions.insert(function.info.name.to_ascii_lowercase().into_bytes(), Rc::new(compiled));
    }
    Ok(())
}

/// The first line, `#!lua name=…`: the library's name.
fn name_of(code: &[u8]) -> Result<String, CommandError> {
    if !code.starts_with(b"#!") {
        return Err(CommandError::fixed("ERR Missing library metadata"));
    }
    let end = code.iter().position(|byte| *byte == b'\n').ok_or(CommandError::fixed("ERR Invalid library metadata"))?;
    let words = quoting::split_args(&code[..end]).filter(|words| !words.is_empty());
    let words = words.ok_or(CommandError::fixed("ERR Invalid library metadata"))?;
    let mut words = words.iter().map(Vec::as_slice);
    let engine = words.next().and_then(|word| word.get(2..)).unwrap_or_default();
    let mut name = None;
    for word in words {
        let Some((_, value)) = word.split_at_checked(5).filter(|(what, _)| what.eq_ignore_ascii_case(b"name=")) else {
            return Err(CommandError::joined(&[b"ERR Invalid metadata value given: ", word]));
        };
        if name.replace(value).is_some() {
            return Err(CommandError::fixed("ERR Invalid metadata value, name argument was given multiple times"));
        }
    }
    let name = name.ok_or(CommandError::fixed("ERR Library name was not given"))?;
    let Some(name) = std::str::from_utf8(name).ok().filter(|name| is_name(name)) else {
        return Err(CommandError::new(format!("ERR {BAD_NAME}")));
    };
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(CommandError::joined(&[b"ERR Engine '", engine, b"' not found"]));
    }
    Ok(name.to_owned())
}

const BAD_NAME: &str =
    "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long";

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Runs a library's code once, with register_function in place.
fn declare(interpreter: &Interpreter, code: &[u8], has_limit: bool) -> Result<Vec<Declared>, CommandError> {
    let end = code.iter().position(|byte| *byte == b'\n').unwrap_or(code.len());
    let chunk = interpreter
        .load(&code[end..], c"@user_function")
        .map_err(|error| CommandError::joined(&[b"ERR Error compiling function: ", &error]))?;
    let mut loader = Loader { declared: Vec::new(), started_ms: clock::unix_ms(), has_limit };
    interpreter
        .load_library(chunk, &mut loader)
        .map_err(|error| CommandError::joined(&[b"ERR Error registering functions: ", &error]))?;
    Ok(loader.declared)
}

impl Loader {
    fn register(&mut self, stack: &mut Stack) -> Outcome {
        let declared = match stack.top() {
            1 => named_declaration(stack),
            2 => plain_declaration(stack),
            _ => Err("wrong number of arguments to redis.register_function"),
        };
        let declared = declared.and_then(|declared| {
            if !is_name(&declared.info.name) {
                return Err(BAD_NAME);
            }
            if self.declared.iter().any(|other| other.info.name == declared.info.name) {
                return Err("Function already exists in the library");
            }
            Ok(declared)
        });
        match declared {
            Ok(declared) => {
                self.declared.push(declared);
                Outcome::Return(0)
            }
            Err(text) => raise(stack, text),
        }
    }
}

impl Host for Loader {
    fn call(&mut self, stack: &mut Stack, _: bool) -> Outcome {
        raise(stack, "redis.call/pcall can only be called inside a script invocation")
    }

    fn ask(&mut self, question: Question, stack: &mut Stack) -> Outcome {
        match question {
            Question::Register => self.register(stack),
            _ => raise(stack, "it can only be called inside a script invocation"),
        }
    }

    fn tick(&mut self) -> Option<&'static str> {
        let is_over = self.has_limit && clock::unix_ms() - self.started_ms > LOAD_TIMEOUT_MS;
        is_over.then_some("FUNCTION LOAD timeout")
    }
}

/// `register_function(name, callback)`.
fn plain_declaration(stack: &mut Stack) -> Result<Declared, &'static str> {
    let name = text_at(stack, 1).ok_or("first argument to redis.register_function must be a string")?;
    if stack.kind(2) != Kind::Function {
        return Err("second argument to redis.register_function must be a function");
    }
    let callback = stack.anchor(2);
    let info = FunctionInfo { name: name_from(name), description: None, flags: Vec::new() };
    Ok(Declared { info, callback, flags: ScriptFlags::default() })
}

/// `register_function{function_name=…, callback=…, flags=…, description=…}`.
fn named_declaration(stack: &mut Stack) -> Result<Declared, &'static str> {
    if stack.kind(1) != Kind::Table {
        return Err(
            "calling redis.register_function with a single argument is only applicable to Lua table (representing \
                    named arguments).",
        );
    }
    let (mut name, mut callback, mut description) = (None, None, None);
    let (mut flags, mut names) = (ScriptFlags::default(), Vec::new());
    stack.push_nil();
    while stack.next(1) {
        let key = text_at(stack, 2).ok_or("named argument key given to redis.register_function is not a string")?;
        match key.to_ascii_lowercase().as_slice() {
            b"function_name" => {
                let text = text_at(stack, 3);
                name = Some(text.ok_or("function_name argument given to redis.register_function must be a string")?);
            }
            b"description" => {
                let text = text_at(stack, 3);
                let text = text.ok_or("description argument given to redis.register_function must be a string")?;
                description = Some(Bytes::from(text));
            }
            b"callback" => {
                if stack.kind(3) != Kind::Function {
                    return Err("callback argument given to redis.register_function must be a function");
                }
                callback = Some(stack.anchor(3));
            }
            b"flags" => (flags, names) = read_flags(stack)?,
            _ => return Err("unknown argument given to redis.register_function"),
        }
        stack.truncate(2);
    }
    let name = name.ok_or("redis.register_function must get a function name argument")?;
    let callback = callback.ok_or("redis.register_function must get a callback argument")?;
    Ok(Declared { info: FunctionInfo { name: name_from(name), description, flags: names }, callback, flags })
}

/// What is no text is no name that anything may have.
fn name_from(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_default()
}

/// The list of flags at place 3.
fn read_flags(stack: &mut Stack) -> Result<(ScriptFlags, Vec<&'static str>), &'static str> {
    if stack.kind(3) != Kind::Table {
        return Err("flags argument to redis.register_function must be a table representing function flags");
    }
    let mut flags = ScriptFlags::default();
    for item in 1.. {
        stack.push_item(3, item);
        if stack.kind(4) == Kind::Nil {
            break;
        }
        let name = text_at(stack, 4).ok_or("unknown flag given")?;
        if !flags.add(&name.to_ascii_lowercase()) {
            return Err("unknown flag given");
        }
        stack.truncate(3);
    }
    // FUNCTION LIST shows them in the order of their declaration, each once.
    let names = flags::NAMES.iter().copied().filter(|name| flags.has(name.as_bytes())).collect();
    Ok((flags, names))
}

fn text_at(stack: &Stack, index: usize) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    super::api::append_argument(stack, index, &mut bytes).then_some(bytes)
}

/// Adds a library to those of the server. No function may be in two libraries.
pub fn add(libraries: &mut BTreeMap<String, Library>, library: Library, replace: bool) -> Result<(), CommandError> {
    if libraries.contains_key(&library.name) && !replace {
        return Err(CommandError::new(format!("ERR Library '{}' already exists", library.name)));
    }
    let others = libraries.values().filter(|other| other.name != library.name);
    check_functions(&library, others)?;
    libraries.insert(library.name.clone(), library);
    Ok(())
}

/// Adds all of several libraries, or none.
pub fn add_all(
    libraries: &mut BTreeMap<String, Library>,
    added: Vec<Library>,
    replace: bool,
) -> Result<(), CommandError> {
    let mut joined = libraries.clone();
    for library in &added {
        if joined.remove(&library.name).is_some() && !replace {
            return Err(CommandError::new(format!("ERR Library {} already exists", library.name)));
        }
    }
    for library in &added {
        check_functions(library, joined.values())?;
    }
    joined.extend(added.into_iter().map(|library| (library.name.clone(), library)));
    *libraries = joined;
    Ok(())
}

fn check_functions<'a>(library: &Library, mut others: impl Iterator<Item = &'a Library>) -> Result<(), CommandError> {
    let taken = others.find_map(|other| {
        let is_in_both = |function: &&FunctionInfo| {
            other.functions.iter().any(|known| known.name.eq_ignore_ascii_case(&function.name))
        };
        library.functions.iter().find(is_in_both)
    });
    match taken {
        Some(function) => Err(CommandError::new(format!("ERR Function {} already exists", function.name))),
        None => Ok(()),
    }
}
