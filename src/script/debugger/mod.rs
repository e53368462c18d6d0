//! The debugger of EVAL (SCRIPT DEBUG): stops before a line and takes commands from the client's own socket until one of them lets the
//! script go on.
//!
//! ```text
//!   EVAL ─► first line ─► stop ─► commands ─┬─ step ─► next line ─► stop …
//!                          ▲                ├─ continue ─► breakpoint, redis.breakpoint(), or a loop that takes long
//!                          └────────────────┘                      client gone ─► runs to its end
//!   end ─► what is left of the log, <endsession>, the reply of EVAL, and the connection is closed
//! ```
//! Whatever there is to say is gathered in a log, and sent as one array of simple strings whenever the user is to speak.
//! The script holds every shard meanwhile: other clients wait, after busy-reply-threshold they are answered -BUSY, and SCRIPT KILL works. With SCRIPT
//! DEBUG YES what it writes is taken back at the end (`undo`).

mod repl;
mod request;
mod show;
mod undo;

pub use undo::Undo;

use crate::engine::lua::Stack;
use crate::net::console;
use crate::resp::Args;

/// Breakpoints that can be set.
const BREAKPOINTS_MAX: usize = 64;
/// Bytes of a value or reply that are shown unless `maxlen` says otherwise.
const SHOWN_MAX: usize = 256;
/// Words of a command that are shown.
const SHOWN_WORDS: usize = 10;

/// The debugger of one run.
pub struct Debugger {
    source: Vec<Vec<u8>>,
    /// The line that is about to run.
    line: i64,
    /// It stops at the next line, and tells of commands until then.
    steps: bool,
    /// redis.breakpoint was called.
    breaks: bool,
    breakpoints: Vec<i64>,
    log: Vec<Vec<u8>>,
    /// Bytes of a value or reply that are shown; 0 = all.
    shown_max: usize,
    /// The user knows of `maxlen`.
    knows_limit: bool,
    input: Vec<u8>,
}

impl Debugger {
    pub fn new(script: &[u8]) -> Debugger {
        let end = script.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
        Debugger {
            source: script[..end].split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(),
            line: 0,
            steps: true,
            breaks: false,
            breakpoints: Vec::new(),
            log: Vec::new(),
            shown_max: SHOWN_MAX,
            knows_limit: false,
            input: Vec::new(),
        }
    }

    /// What has not been sent yet.
    pub fn into_log(self) -> Vec<Vec<u8>> {
        self.log
    }

    /// Whether commands of the script are told of.
    pub fn is_stepping(&self) -> bool {
        self.steps
    }

    fn say(&mut self, text: impl Into<Vec<u8>>) {
        self.log.push(text.into());
    }

    /// Says something that may be long.
    fn say_shortened(&mut self, mut text: Vec<u8>) {
        let is_long = self.shown_max > 0 && text.len() > self.shown_max;
        if is_long {
            text.truncate(self.shown_max);
            text.extend_from_slice(b" ...");
        }
        self.say(text);
        if is_long && !std::mem::replace(&mut self.knows_limit, true) {
            self.say("<hint> The above reply was trimmed. Use 'maxlen 0' to disable trimming.");
        }
    }

    fn say_value(&mut self, prefix: &str, stack: &mut Stack, index: usize) {
        let mut text = prefix.as_bytes().to_vec();
        show::value(stack, index, &mut text);
        self.say_shortened(text);
    }

    /// A command that the script runs.
    pub fn note_command(&mut self, args: Args<'_>) {
        let mut text = b"<redis>".to_vec();
        for (index, word) in args.iter().enumerate() {
            if index == SHOWN_WORDS {
                text.extend_from_slice(format!(" ... ({} more)", args.len() - index - 1).as_bytes());
                break;
            }
            text.push(b' ');
            text.extend_from_slice(word);
        }
        self.say(text);
    }

    /// Its reply.
    pub fn note_reply(&mut self, reply: &[u8]) {
        if reply.first() == Some(&b'-') {
            let end = reply.iter().position(|byte| *byte == b'\r').unwrap_or(reply.len());
            self.note_error(&reply[..end]);
        }
        let mut text = b"<reply> ".to_vec();
        show::reply(reply, &mut text);
        self.say_shortened(text);
    }

    /// An error that a function of ours has made.
    pub fn note_error(&mut self, text: &[u8]) {
        if self.steps {
            self.say([b"<error> ".as_slice(), text].concat());
        }
    }

    /// redis.breakpoint(): the next line is stopped at.
    pub fn break_soon(&mut self) {
        self.breaks = true;
    }

    /// redis.debug(…).
    pub fn note_values(&mut self, stack: &mut Stack) {
        let mut text = format!("<debug> line {}: ", self.line).into_bytes();
        let count = stack.top();
        for index in 1..=count {
            show::value(stack, index, &mut text);
            if index < count {
                text.extend_from_slice(b", ");
            }
        }
        self.say(text);
    }

    fn say_line(&mut self, line: i64) {
        let mark = match (line == self.line, self.breakpoints.contains(&line)) {
            (true, true) => "->#",
            (true, false) => "-> ",
            (false, true) => "  #",
            (false, false) => "   ",
        };
        let text = usize::try_from(line - 1).ok().and_then(|index| self.source.get(index));
        let text = text.map_or(b"<out of range source code line>".as_slice(), Vec::as_slice);
        self.log.push([format!("{mark}{line:<3} ").as_bytes(), text].concat());
    }

    /// Says the lines around one.
    fn say_lines(&mut self, around: i64, context: i64) {
        for line in 1..=self.source.len() as i64 {
            if (around - line).abs() <= context {
                self.say_line(line);
            }
        }
    }

    /// Sends the log.
    fn send(&mut self) {
        send(std::mem::take(&mut self.log));
    }
}

/// Sends lines to the user as an array of simple strings.
fn send(log: Vec<Vec<u8>>) {
    let mut bytes = format!("*{}\r\n", log.len()).into_bytes();
    for mut text in log {
        text.iter_mut().filter(|byte| matches!(byte, b'\r' | b'\n')).for_each(|byte| *byte = b' ');
        bytes.push(b'+');
        bytes.extend_from_slice(&text);
        bytes.extend_from_slice(b"\r\n");
    }
    // Of a user who is gone the next read tells.
    let _ = console::write_all(&bytes);
}

/// The end of a session, ahead of the reply of EVAL.
pub fn say_goodbye(mut log: Vec<Vec<u8>>) {
    log.push(b"<endsession>".to_vec());
    send(log);
}
