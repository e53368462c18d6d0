//! Level 5: EVAL and functions. Lua 5.1 as Redis has it, two interpreters per worker thread: one for scripts, one for functions.

mod api;
mod call;
mod cjson;
mod cmsgpack;
pub mod commands;
mod convert;
mod debugger;
mod foresight;
pub mod functions;
mod interpreter;
mod libraries;
mod run;

use crate::server::script_flags as flags;
