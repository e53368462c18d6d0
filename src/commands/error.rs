//! Every error text that a command can answer, in one place. Clients match these to the letter.

use std::borrow::Cow;
use std::fmt;

/// A reply that begins with `-`; the connection lives on. Its text may quote what a client has sent, so it is bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct CommandError(Cow<'static, [u8]>);

pub type CommandResult<T> = Result<T, CommandError>;

/// Bytes of a word that errors show where they cut it.
pub const SHOWN_MAX: usize = 128;

impl CommandError {
    pub const fn fixed(text: &'static str) -> Self {
        CommandError(Cow::Borrowed(text.as_bytes()))
    }

    /// An error with text of its own, prefix included (`ERR …`).
    pub fn new(text: impl Into<Vec<u8>>) -> Self {
        CommandError(Cow::Owned(text.into()))
    }

    /// The same put together from pieces, some of which clients have sent: each is shown up to a NUL, where texts of Redis end, and the
    /// whole without line ends behind it.
    pub fn joined(pieces: &[&[u8]]) -> Self {
        let mut text = pieces.iter().flat_map(|piece| shown(piece, usize::MAX)).copied().collect::<Vec<u8>>();
        while let Some(b'\r' | b'\n') = text.last() {
            text.pop();
        }
        CommandError(Cow::Owned(text))
    }

    /// As it is sent, but for line ends.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// For the log, and for texts that quote no client.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.0)
    }

    /// What follows an `ERR `.
    pub fn reason(&self) -> &[u8] {
        self.0.strip_prefix(b"ERR ").unwrap_or(&self.0)
    }

    /// The prefix, by which errorstats counts.
    pub fn code(&self) -> &str {
        let code = self.0.split(|byte| *byte == b' ').next();
        code.and_then(|code| std::str::from_utf8(code).ok()).unwrap_or("ERR")
    }

    pub fn wrong_arity(full_name: &str) -> Self {
        Self::new(format!("ERR wrong number of arguments for '{full_name}' command"))
    }

    pub fn invalid_expire(full_name: &str) -> Self {
        Self::new(format!("ERR invalid expire time in '{full_name}' command"))
    }

    /// A subcommand that exists, with a number of arguments that it does not take.
    pub fn unknown_subcommand_arity(name: &[u8], sub: &[u8]) -> Self {
        let (name, sub) = (name.to_ascii_uppercase(), shown(sub, SHOWN_MAX));
        Self::joined(&[b"ERR unknown subcommand or wrong number of arguments for '", sub, b"'. Try ", &name, b" HELP."])
    }

    pub fn unknown_subcommand(name: &[u8], sub: &[u8]) -> Self {
        let (name, sub) = (name.to_ascii_uppercase(), shown(sub, SHOWN_MAX));
        Self::joined(&[b"ERR unknown subcommand '", sub, b"'. Try ", &name, b" HELP."])
    }
}

impl fmt::Debug for CommandError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.text())
    }
}

/// A client's word as errors show it: up to a NUL, and no more than so many bytes.
pub fn shown(word: &[u8], most: usize) -> &[u8] {
    let end = word.iter().position(|byte| *byte == 0).unwrap_or(word.len());
    &word[..end.min(most)]
}

pub const OUT_OF_MEMORY: CommandError = CommandError::fixed("OOM command not allowed when used memory > 'maxmemory'.");
pub const MISCONF_RDB: CommandError = CommandError::fixed(
    "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk. Commands that may \
     modify the data set are disabled, because this instance is configured to report errors during writes if RDB \
     snapshotting fails (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB error.",
);
pub const NO_REPLICAS: CommandError = CommandError::fixed("NOREPLICAS Not enough good replicas to write.");
pub const READ_ONLY_REPLICA: CommandError =
    CommandError::fixed("READONLY You can't write against a read only replica.");
pub const PRIMARY_DOWN: CommandError =
    CommandError::fixed("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.");
pub const LOADING: CommandError = CommandError::fixed("LOADING Redis is loading the dataset in memory");
pub const SYNTAX: CommandError = CommandError::fixed("ERR syntax error");
pub const WRONG_TYPE: CommandError =
    CommandError::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
pub const NOT_AN_INTEGER: CommandError = CommandError::fixed("ERR value is not an integer or out of range");
pub const NOT_AN_INT: CommandError =
    CommandError::fixed("ERR value is out of range, value must between -2147483648 and 2147483647");
pub const NOT_A_FLOAT: CommandError = CommandError::fixed("ERR value is not a valid float");
pub const NO_SUCH_KEY: CommandError = CommandError::fixed("ERR no such key");
pub const OUT_OF_RANGE: CommandError = CommandError::fixed("ERR index out of range");
pub const OVERFLOW: CommandError = CommandError::fixed("ERR increment or decrement would overflow");
pub const NAN_OR_INFINITY: CommandError = CommandError::fixed("ERR increment would produce NaN or Infinity");
pub const STRING_TOO_LONG: CommandError =
    CommandError::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
pub const MUST_BE_POSITIVE: CommandError = CommandError::fixed("ERR value is out of range, must be positive");
pub const SAME_OBJECT: CommandError = CommandError::fixed("ERR source and destination objects are the same");
pub const INVALID_DB: CommandError = CommandError::fixed("ERR invalid DB index");
pub const DB_OUT_OF_RANGE: CommandError = CommandError::fixed("ERR DB index is out of range");
pub const INVALID_CURSOR: CommandError = CommandError::fixed("ERR invalid cursor");
pub const TIMEOUT_NOT_A_FLOAT: CommandError = CommandError::fixed("ERR timeout is not a float or out of range");
pub const TIMEOUT_NOT_AN_INTEGER: CommandError = CommandError::fixed("ERR timeout is not an integer or out of range");
pub const TIMEOUT_NEGATIVE: CommandError = CommandError::fixed("ERR timeout is negative");
pub const TIMEOUT_OUT_OF_RANGE: CommandError = CommandError::fixed("ERR timeout is out of range");
pub const NUMKEYS_NOT_POSITIVE: CommandError = CommandError::fixed("ERR numkeys should be greater than 0");
pub const COUNT_NOT_POSITIVE: CommandError = CommandError::fixed("ERR count should be greater than 0");
