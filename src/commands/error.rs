//! Every error text that a command can answer, in one place. Clients match these to the letter.

use std::borrow::Cow;

/// A reply that begins with `-`; the connection lives on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandError(pub Cow<'static, str>);

pub type CommandResult<T> = Result<T, CommandError>;

impl CommandError {
    pub const fn fixed(text: &'static str) -> Self {
        CommandError(Cow::Borrowed(text))
    }

    /// An error with text of its own, prefix included (`ERR …`).
    pub fn new(text: impl Into<String>) -> Self {
        CommandError(Cow::Owned(text.into()))
    }

    /// The prefix, by which errorstats counts.
    pub fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or("ERR")
    }

    pub fn wrong_arity(full_name: &str) -> Self {
        Self::new(format!("ERR wrong number of arguments for '{full_name}' command"))
    }

    pub fn invalid_expire(full_name: &str) -> Self {
        Self::new(format!("ERR invalid expire time in '{full_name}' command"))
    }

    /// A subcommand that exists, with a number of arguments that it does not take.
    pub fn unknown_subcommand_arity(name: &[u8], sub: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name).to_uppercase();
        let sub = String::from_utf8_lossy(sub);
        Self::new(format!("ERR unknown subcommand or wrong number of arguments for '{sub}'. Try {name} HELP."))
    }

    pub fn unknown_subcommand(name: &[u8], sub: &[u8]) -> Self {
        let name = String::from_utf8_lossy(name).to_uppercase();
        let sub = String::from_utf8_lossy(sub).chars().take(128).collect::<String>();
        Self::new(format!("ERR unknown subcommand '{sub}'. Try {name} HELP."))
    }
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
