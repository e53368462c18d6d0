//! The stops of a debugged script, and the commands that its user gives then.

use super::super::call::{Caller, KILLED};
use super::{BREAKPOINTS_MAX, Debugger, request};
use crate::base::clock;
use crate::base::number::parse_i64;
use crate::engine::lua::{self, Event, Kind, Stack};
use crate::net::console;
use std::time::Duration;

/// Bytes that may wait to be understood.
const INPUT_MAX: usize = 1 << 20;
/// Pause between two looks at the user's socket.
const LOOK: Duration = Duration::from_millis(1);
/// A loop is stopped after this time if busy-reply-threshold sets none.
const LONG_MS: i64 = 5000;

const HELP: &[&str] = &[
    "Redis Lua debugger help:",
    "[h]elp               Show this help.",
    "[s]tep               Run current line and stop again.",
    "[n]ext               Alias for step.",
    "[c]ontinue           Run till next breakpoint.",
    "[l]ist               List source code around current line.",
    "[l]ist [line]        List source code around [line].",
    "                     line = 0 means: current position.",
    "[l]ist [line] [ctx]  In this form [ctx] specifies how many lines",
    "                     to show before/after [line].",
    "[w]hole              List all source code. Alias for 'list 1 1000000'.",
    "[p]rint              Show all the local variables.",
    "[p]rint <var>        Show the value of the specified variable.",
    "                     Can also show global vars KEYS and ARGV.",
    "[b]reak              Show all breakpoints.",
    "[b]reak <line>       Add a breakpoint to the specified line.",
    "[b]reak -<line>      Remove breakpoint from the specified line.",
    "[b]reak 0            Remove all breakpoints.",
    "[t]race              Show a backtrace.",
    "[e]val <code>        Execute some Lua code (in a different callframe).",
    "[r]edis <cmd>        Execute a Redis command.",
    "[m]axlen [len]       Trim logged Redis replies and Lua var dumps to len.",
    "                     Specifying zero as <len> means unlimited.",
    "[a]bort              Stop the execution of the script. In sync",
    "                     mode dataset changes will be retained.",
    "",
    "Debugger functions you can call from Lua scripts:",
    "redis.debug()        Produce logs in the debugger console.",
    "redis.breakpoint()   Stop execution like if there was a breakpoint in the",
    "                     next line of code.",
];

/// What follows from a command.
enum Then {
    Ask,
    GoOn,
    Raise(&'static str),
}

/// What came from the user.
enum Heard {
    Command(Vec<Vec<u8>>),
    Gone,
    Malformed(&'static str),
    Killed,
}

impl Caller<'_> {
    /// A line is about to run, or many instructions have run. The text is raised.
    pub(in super::super) fn debug_line(&mut self, stack: &mut Stack, event: Event) -> Option<String> {
        if event == Event::Count
            && let Some(text) = self.look_up()
        {
            stack.interrupt();
            return Some(text.into());
        }
        let frame = stack.frame(0)?;
        let debugger = self.debugger.as_mut()?;
        debugger.line = frame.line;
        if !is_script(&frame) {
            return None;
        }
        let is_breakpoint = debugger.breaks || debugger.breakpoints.contains(&debugger.line);
        let is_expected = debugger.steps || is_breakpoint;
        if event == Event::Count && !is_expected && !self.has_run_long() {
            return None;
        }
        if event == Event::Line && !is_expected {
            return None;
        }
        let debugger = self.debugger.as_mut()?;
        let reason = match (is_breakpoint, debugger.breaks) {
            (true, true) => "redis.breakpoint() called",
            (true, false) => "break point",
            (false, _) if is_expected => "step over",
            (false, _) => "timeout reached, infinite loop?",
        };
        (debugger.steps, debugger.breaks) = (false, false);
        let line = debugger.line;
        debugger.say(format!("* Stopped at {line}, stop reason = {reason}"));
        debugger.say_line(line);
        debugger.send();
        let raised = self.converse(stack, !is_expected);
        self.started_ms = Some(clock::unix_ms());
        raised.map(Into::into)
    }

    fn has_run_long(&mut self) -> bool {
        let limit = self.worker.server.config.current().busy_reply_threshold as i64;
        let now_ms = clock::unix_ms();
        now_ms - *self.started_ms.get_or_insert(now_ms) >= if limit == 0 { LONG_MS } else { limit }
    }

    /// Takes commands until one lets the script go on. A script that loops must not outlive its user.
    fn converse(&mut self, stack: &mut Stack, loops: bool) -> Option<&'static str> {
        loop {
            match self.hear() {
                Heard::Command(words) => match self.obey(stack, &words) {
                    Then::Ask => {}
                    Then::GoOn => return None,
                    Then::Raise(text) => return Some(text),
                },
                Heard::Malformed(text) => return Some(text),
                Heard::Killed => {
                    stack.interrupt();
                    return Some(KILLED);
                }
                Heard::Gone => {
                    let debugger = self.debugger.as_mut()?;
                    debugger.breakpoints.clear();
                    return loops.then_some("timeout during Lua debugging with client closing connection");
                }
            }
        }
    }

    fn hear(&mut self) -> Heard {
        let mut buffer = [0; 4096];
        loop {
            let Some(debugger) = self.debugger.as_mut() else { return Heard::Gone };
            match request::parse(&debugger.input) {
                Ok(Some(request)) => {
                    debugger.input.drain(..request.len);
                    return Heard::Command(request.words);
                }
                Ok(None) if debugger.input.len() > INPUT_MAX => {
                    debugger.input.clear();
                    return Heard::Malformed("max client buffer reached");
                }
                Ok(None) => {}
                Err(request::Malformed) => {
                    debugger.input.clear();
                    return Heard::Malformed("protocol error");
                }
            }
            match console::read(&mut buffer) {
                Ok(None) => {
                    if self.look_up().is_some() {
                        return Heard::Killed;
                    }
                    std::thread::sleep(LOOK);
                }
                Ok(Some(0)) | Err(_) => return Heard::Gone,
                Ok(Some(len)) => debugger.input.extend_from_slice(&buffer[..len]),
            }
        }
    }

    fn obey(&mut self, stack: &mut Stack, words: &[Vec<u8>]) -> Then {
        let name = String::from_utf8_lossy(&words[0]).to_ascii_lowercase();
        match name.as_str() {
            "a" | "abort" => return Then::Raise("script aborted for user request"),
            "e" | "eval" => self.evaluate(stack, &words[1..].join(&b' ')),
            "r" | "redis" if words.len() > 1 => self.run_command(stack, &words[1..]),
            "p" | "print" if words.len() == 2 => self.print(stack, &words[1]),
            _ => {}
        }
        let Some(debugger) = self.debugger.as_mut() else { return Then::GoOn };
        match name.as_str() {
            "s" | "step" | "n" | "next" => {
                debugger.steps = true;
                return Then::GoOn;
            }
            "c" | "continue" => return Then::GoOn,
            "h" | "help" => HELP.iter().for_each(|line| debugger.say(*line)),
            "e" | "eval" => {}
            "r" | "redis" if words.len() > 1 => {}
            "p" | "print" if words.len() == 2 => {}
            "p" | "print" => debugger.say_locals(stack),
            "t" | "trace" => debugger.say_trace(stack),
            "m" | "maxlen" => debugger.limit(words.get(1).filter(|_| words.len() == 2)),
            "b" | "break" => debugger.set_breakpoints(&words[1..]),
            "l" | "list" => {
                let around = words.get(1).map(|word| number_in_front(word)).filter(|line| *line > 0);
                let context = words.get(2).map_or(5, |word| number_in_front(word));
                debugger.say_lines(around.unwrap_or(debugger.line), context);
            }
            "w" | "whole" => debugger.say_lines(1, 1_000_000),
            _ => debugger.say("<error> Unknown Redis Lua debugger command or wrong number of arguments."),
        }
        debugger.send();
        Then::Ask
    }

    /// Runs code that may call redis.call as the script may.
    fn call_chunk(&mut self, stack: &mut Stack, args: usize) -> bool {
        lua::with_host(self, || stack.call_all(args))
    }

    fn evaluate(&mut self, stack: &mut Stack, code: &[u8]) {
        const NAME: &std::ffi::CStr = c"@ldb_eval";
        let top = stack.top();
        let mut ok = stack.push_chunk(&[b"return ", code].concat(), NAME);
        if !ok {
            stack.truncate(top);
            ok = stack.push_chunk(code, NAME);
        }
        let ok = ok && self.call_chunk(stack, 0);
        if stack.top() == top {
            stack.push_nil();
        }
        if let Some(debugger) = self.debugger.as_mut() {
            if ok {
                debugger.say_value("<retval> ", stack, top + 1);
            } else {
                // The reference does not survive an error that is a table, as those of redis.call are.
                if stack.kind(top + 1) == Kind::Table {
                    stack.push_field(top + 1, b"err");
                }
                let text = stack.string(stack.top()).unwrap_or(b"(an error that is no text)");
                debugger.say([b"<error> ", text].concat());
            }
        }
        stack.truncate(top);
    }

    fn run_command(&mut self, stack: &mut Stack, words: &[Vec<u8>]) {
        let top = stack.top();
        if stack.reserve(words.len() + 2) && stack.push_chunk(b"return redis.call(...)", c"@ldb_redis") {
            words.iter().for_each(|word| stack.push_string(word));
            self.set_stepping(true);
            self.call_chunk(stack, words.len());
            self.set_stepping(false);
        }
        stack.truncate(top);
    }

    fn set_stepping(&mut self, steps: bool) {
        if let Some(debugger) = self.debugger.as_mut() {
            debugger.steps = steps;
        }
    }

    /// Says a variable: a local one of the innermost function that has it, or one of the two globals.
    fn print(&mut self, stack: &mut Stack, wanted: &[u8]) {
        let top = stack.top();
        let mut level = 0;
        while stack.frame(level).is_some() {
            let mut variable = 1;
            while let Some(name) = stack.push_local(level, variable) {
                if name == wanted {
                    if let Some(debugger) = self.debugger.as_mut() {
                        debugger.say_value("<value> ", stack, top + 1);
                    }
                    return stack.truncate(top);
                }
                stack.truncate(top);
                variable += 1;
            }
            level += 1;
        }
        let is_global = wanted == b"KEYS" || wanted == b"ARGV";
        let found =
            is_global && stack.push_chunk(&[b"return ", wanted].concat(), c"@ldb_eval") && self.call_chunk(stack, 0);
        if let Some(debugger) = self.debugger.as_mut() {
            if found && stack.top() > top {
                debugger.say_value("<value> ", stack, top + 1);
            } else {
                debugger.say("No such variable.");
            }
        }
        stack.truncate(top);
    }
}

impl Debugger {
    fn say_locals(&mut self, stack: &mut Stack) {
        let top = stack.top();
        let (mut variable, mut is_any) = (1, false);
        while let Some(name) = stack.push_local(0, variable) {
            if name != b"(*temporary)" {
                is_any = true;
                self.say_value(&format!("<value> {} = ", String::from_utf8_lossy(&name)), stack, top + 1);
            }
            stack.truncate(top);
            variable += 1;
        }
        if !is_any {
            self.say("No local variables in the current context.");
        }
    }

    fn say_trace(&mut self, stack: &Stack) {
        let mut level = 0;
        while let Some(frame) = stack.frame(level) {
            if is_script(&frame) {
                let word = if level == 0 { "In" } else { "From" };
                let name = frame.name.as_deref().unwrap_or(b"top level");
                self.say([word.as_bytes(), b" ", name, b":"].concat());
                self.say_line(frame.line);
            }
            level += 1;
        }
        if level == 0 {
            self.say("<error> Can't retrieve Lua stack.");
        }
    }

    fn limit(&mut self, wanted: Option<&Vec<u8>>) {
        if let Some(word) = wanted {
            self.knows_limit = true;
            self.shown_max = match number_in_front(word) {
                0 => 0,
                len => len.max(60) as usize,
            };
        }
        if self.shown_max > 0 {
            let text = format!("<value> replies are truncated at {} bytes.", self.shown_max);
            self.say(text);
        } else {
            self.say("<value> replies are unlimited.");
        }
    }

    /// Lists the breakpoints, or sets and removes some.
    fn set_breakpoints(&mut self, words: &[Vec<u8>]) {
        if words.is_empty() && self.breakpoints.is_empty() {
            self.say("No breakpoints set. Use 'b <line>' to add one.");
        } else if words.is_empty() {
            self.say(format!("{} breakpoints set:", self.breakpoints.len()));
            self.breakpoints.clone().into_iter().for_each(|line| self.say_line(line));
        }
        for word in words {
            match parse_i64(word) {
                None => self.say([b"Invalid argument:'", word.as_slice(), b"'"].concat()),
                Some(0) => {
                    self.breakpoints.clear();
                    self.say("All breakpoints removed.");
                }
                Some(line) if line < 0 => {
                    let place = self.breakpoints.iter().position(|breakpoint| Some(*breakpoint) == line.checked_neg());
                    let removed = place.map(|place| self.breakpoints.remove(place)).is_some();
                    self.say(if removed { "Breakpoint removed." } else { "No breakpoint in the specified line." });
                }
                Some(_) if self.breakpoints.len() == BREAKPOINTS_MAX => self.say("Too many breakpoints set."),
                Some(line) if line > self.source.len() as i64 || self.breakpoints.contains(&line) => {
                    self.say("Wrong line number.");
                }
                Some(line) => {
                    self.breakpoints.push(line);
                    self.say_lines(line, 1);
                }
            }
        }
    }
}

fn is_script(frame: &lua::Frame) -> bool {
    frame.source.windows(11).any(|part| part == b"user_script")
}

/// The number that a word begins with, as C's atoi reads it.
fn number_in_front(word: &[u8]) -> i64 {
    let sign = usize::from(matches!(word.first(), Some(b'-' | b'+')));
    let digits = word[sign..].iter().take(9).take_while(|byte| byte.is_ascii_digit());
    let value = digits.fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    if word.first() == Some(&b'-') { -value } else { value }
}
