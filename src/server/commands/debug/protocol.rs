//! DEBUG PROTOCOL, ERROR, LOG, STRINGMATCH-LEN: what client libraries test themselves with.

use super::DebugCommand;
use crate::base::glob;
use crate::commands::error::CommandError;
use crate::resp::{Args, Reply};
use crate::server::session::{SessionContext, SessionFlow};

pub const SUBCOMMANDS: &[DebugCommand] = &[
    DebugCommand::new(
        "PROTOCOL",
        (1, 1),
        "<type>",
        "Answers a value of that type: string, integer, double, bignum, null, array, set, map, attrib, push, verbatim, true, false.",
        protocol,
    ),
    DebugCommand::new("ERROR", (1, 1), "<string>", "Answers an error with that text.", answer_error),
    DebugCommand::new("LOG", (1, 1), "<message>", "Writes the message to the log.", log),
    DebugCommand::new(
        "STRINGMATCH-LEN",
        (2, 2),
        "<length> <pattern>",
        "Matches a pattern against that many letters a.",
        stringmatch_len,
    ),
];

fn protocol(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let kind = String::from_utf8_lossy(&args[2]).to_ascii_lowercase();
    if kind == "push" && !ctx.session.resp3 {
        return Err(CommandError::fixed("ERR RESP2 is not supported by this command"));
    }
    if write(&kind, ctx.reply) {
        return Ok(SessionFlow::Done);
    }
    Err(CommandError::fixed(
        "ERR Wrong protocol type name. Please use one of the following: string|integer|double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
    ))
}

/// The values that client libraries' tests expect; false for an unknown type.
fn write(kind: &str, reply: &mut Reply) -> bool {
    match kind {
        "string" => reply.bulk(b"Hello World"),
        "integer" => reply.integer(12345),
        "double" => reply.double_text(b"3.141"),
        "bignum" => reply.big_number(b"1234567999999999999999999999999999999"),
        "null" => reply.null(),
        "array" => {
            reply.array(3);
            (0..3).for_each(|value| reply.integer(value));
        }
        "set" => {
            reply.set(3);
            (0..3).for_each(|value| reply.integer(value));
        }
        "map" => {
            reply.map(3);
            for value in 0..3 {
                reply.integer(value);
                reply.boolean(value == 1);
            }
        }
        "attrib" => {
            if reply.is_resp3() {
                reply.attribute(1);
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.integer(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        "push" => {
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.integer(42);
            reply.bulk(b"Some real reply following the push reply");
        }
        "true" => reply.boolean(true),
        "false" => reply.boolean(false),
        "verbatim" => reply.verbatim("txt", b"This is a verbatim\nstring"),
        _ => return false,
    }
    true
}

fn answer_error(_: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    Err(CommandError::new(&args[2]))
}

fn log(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    tracing::warn!("DEBUG LOG: {}", String::from_utf8_lossy(&args[2]));
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn stringmatch_len(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let len = crate::commands::args::integer(&args[2])?.clamp(0, 1 << 30) as usize;
    ctx.reply.integer(i64::from(glob::matches(&args[3], &vec![b'a'; len])));
    Ok(SessionFlow::Done)
}
