//! Function libraries: loading their code, and what `redis.register_function` leaves behind
//! (redis.io, "Redis functions").

use super::api::{bytes_of, raise};
use super::flags::ScriptFlags;
use super::interpreter::{Interpreter, Registered};
use crate::commands::error::CommandError;
use crate::server::Server;
use crate::server::scripts::{FunctionInfo, Library};
use bytes::Bytes;
use mlua::{Function, MultiValue, Result, Table, Value};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// A function as it was registered.
struct Declared {
    info: FunctionInfo,
    callback: Function,
    flags: ScriptFlags,
}

/// Compiles a library's code in an interpreter of its own, so that a bad one leaves nothing behind.
pub fn compile(server: &'static Server, code: &Bytes) -> std::result::Result<Library, CommandError> {
    let name = name_of(code)?;
    let interpreter = Interpreter::new(server).map_err(|error| CommandError::new(format!("ERR {error}")))?;
    let functions = declare(&interpreter, &name, code)?;
    if functions.is_empty() {
        return Err(CommandError::fixed("ERR No functions registered"));
    }
    Ok(Library { name, code: code.clone(), functions: functions.into_iter().map(|declared| declared.info).collect() })
}

/// Makes the functions of a library callable in an interpreter.
pub fn load_into(interpreter: &Interpreter, library: &Library) -> Result<()> {
    let declared = declare(interpreter, &library.name, &library.code).map_err(|error| raise(&error.0))?;
    let mut functions = interpreter.functions.borrow_mut();
    for function in declared {
        functions.insert(function.info.name, Registered { callback: function.callback, flags: function.flags });
    }
    Ok(())
}

/// The first line, `#!lua name=…`: the library's name.
fn name_of(code: &[u8]) -> std::result::Result<String, CommandError> {
    if !code.starts_with(b"#!") {
        return Err(CommandError::fixed("ERR Missing library metadata"));
    }
    let end = code.iter().position(|byte| *byte == b'\n').ok_or(CommandError::fixed("ERR Invalid library metadata"))?;
    let line = String::from_utf8_lossy(&code[2..end]).into_owned();
    let mut words = line.split_whitespace();
    let engine = words.next().unwrap_or_default();
    let mut name = None;
    for word in words {
        let Some(value) = word.strip_prefix("name=") else {
            return Err(CommandError::new(format!("ERR Invalid metadata value given: {word}")));
        };
        if name.replace(value.to_owned()).is_some() {
            return Err(CommandError::fixed("ERR Invalid metadata value, name argument was given multiple times"));
        }
    }
    let name = name.ok_or(CommandError::fixed("ERR Library name was not given"))?;
    if !is_name(&name) {
        return Err(CommandError::fixed(
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
        ));
    }
    if !engine.eq_ignore_ascii_case("lua") {
        return Err(CommandError::new(format!("ERR Engine '{engine}' not found")));
    }
    Ok(name)
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Runs a library's code once, with register_function in place.
fn declare(interpreter: &Interpreter, library: &str, code: &[u8]) -> std::result::Result<Vec<Declared>, CommandError> {
    let end = code.iter().position(|byte| *byte == b'\n').unwrap_or(code.len());
    let chunk = interpreter
        .load(&code[end..], "@user_function")
        .map_err(|error| CommandError::new(format!("ERR Error compiling function: {error}")))?;
    let declared: Rc<RefCell<Vec<Declared>>> = Rc::default();
    let collected = Rc::clone(&declared);
    let register = interpreter.lua.create_function(move |_, args: MultiValue| {
        let function = declaration(&args.into_vec())?;
        let mut all = collected.borrow_mut();
        if all.iter().any(|other| other.info.name == function.info.name) {
            return Err(raise("Function already exists in the library"));
        }
        all.push(function);
        Ok(())
    });
    let failed = |error: mlua::Error| CommandError::new(format!("ERR Error registering functions: {error}"));
    interpreter.set_register_function(Value::Function(register.map_err(failed)?)).map_err(failed)?;
    let result = interpreter.run_protected(&chunk).map_err(failed)?;
    interpreter.set_register_function(Value::Nil).map_err(failed)?;
    if let (false, Value::Table(error)) = result {
        let text = match error.raw_get::<Value>("err") {
            Ok(Value::String(text)) => text.to_string_lossy(),
            _ => "unknown error".into(),
        };
        let text = text.strip_prefix("ERR ").unwrap_or(&text).to_owned();
        tracing::debug!("The library '{library}' was refused: {text}");
        return Err(CommandError::new(format!("ERR Error registering functions: {text}")));
    }
    let all = declared.borrow_mut().drain(..).collect();
    Ok(all)
}

/// `register_function(name, callback)` or `register_function{function_name=…, callback=…, flags=…, description=…}`.
fn declaration(args: &[Value]) -> Result<Declared> {
    match args {
        [Value::Table(table)] => named_declaration(table),
        [name, Value::Function(callback)] => finish(name, callback.clone(), ScriptFlags::default(), Vec::new(), None),
        [_, _] => Err(raise("second argument to redis.register_function must be a function")),
        [_] => Err(raise(
            "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments).",
        )),
        _ => Err(raise("wrong number of arguments to redis.register_function")),
    }
}

fn named_declaration(table: &Table) -> Result<Declared> {
    let (mut name, mut callback, mut description) = (None, None, None);
    let (mut flags, mut names) = (ScriptFlags::default(), Vec::new());
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        let Value::String(key) = key else {
            return Err(raise("named argument key given to redis.register_function is not a string"));
        };
        match &*key.as_bytes() {
            b"function_name" => name = Some(value),
            b"description" => match value {
                Value::String(text) => description = Some(Bytes::copy_from_slice(&text.as_bytes())),
                _ => return Err(raise("description argument given to redis.register_function must be a string")),
            },
            b"callback" => match value {
                Value::Function(function) => callback = Some(function),
                _ => return Err(raise("callback argument given to redis.register_function must be a function")),
            },
            b"flags" => {
                let Value::Table(list) = value else {
                    return Err(raise(
                        "flags argument to redis.register_function must be a table representing function flags",
                    ));
                };
                for flag in list.sequence_values::<Value>() {
                    let text = bytes_of(&flag?).unwrap_or_default();
                    let known = super::flags::NAMES.iter().find(|known| known.as_bytes() == text);
                    let known = known.filter(|_| flags.add(&text)).ok_or_else(|| raise("unknown flag given"))?;
                    names.push(*known);
                }
            }
            _ => return Err(raise("unknown argument given to redis.register_function")),
        }
    }
    let name = name.ok_or_else(|| raise("redis.register_function must get a function name argument"))?;
    let callback = callback.ok_or_else(|| raise("redis.register_function must get a callback argument"))?;
    finish(&name, callback, flags, names, description)
}

fn finish(
    name: &Value,
    callback: Function,
    flags: ScriptFlags,
    names: Vec<&'static str>,
    description: Option<Bytes>,
) -> Result<Declared> {
    let Value::String(name) = name else {
        return Err(raise("function_name argument given to redis.register_function must be a string"));
    };
    let name = name.to_string_lossy();
    if !is_name(&name) {
        return Err(raise(
            "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long",
        ));
    }
    Ok(Declared { info: FunctionInfo { name, description, flags: names }, callback, flags })
}

/// Adds a library to those of the server. No function may be in two libraries.
pub fn add(
    libraries: &mut BTreeMap<String, Library>,
    library: Library,
    replace: bool,
) -> std::result::Result<(), CommandError> {
    if libraries.contains_key(&library.name) && !replace {
        return Err(CommandError::new(format!("ERR Library '{}' already exists", library.name)));
    }
    let others = || libraries.values().filter(|other| other.name != library.name);
    for function in &library.functions {
        if others().any(|other| other.functions.iter().any(|known| known.name == function.name)) {
            return Err(CommandError::new(format!("ERR Function {} already exists", function.name)));
        }
    }
    libraries.insert(library.name.clone(), library);
    Ok(())
}
