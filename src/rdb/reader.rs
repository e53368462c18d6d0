//! Reads an RDB file or stream that arrives in pieces.
//!
//! ```text
//!   feed(bytes) ─► [ checked | consumed | current item … | not yet here ]
//!                                        ▲ next(): Some(item), or None = feed more
//! ```
//! An item is handed out once all of its bytes are here; the value of a key stays raw (`value::decode` takes it from
//! there, on whichever thread). An item that is incomplete is looked at again only when what it surely lacks has come,
//! and goes on where it stopped, so that the time stays linear.

use super::checksum::Checksum;
use super::fault::Fault;
use super::format::{self, Lineage, kind, opcode};
use super::frame::{self, Progress};
use super::source::{Result, Source};
use std::borrow::Cow;
use std::ops::Range;

/// Why loading cannot go on, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadError {
    pub offset: u64,
    pub fault: Fault,
}

impl std::fmt::Display for LoadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (at offset {})", self.fault, self.offset)
    }
}

/// What a file knows of a key's last use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    Unknown,
    IdleSeconds(u64),
    Frequency(u8),
}

/// A key with its value still raw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyItem<'a> {
    pub db: usize,
    pub key: Cow<'a, [u8]>,
    pub kind: u8,
    pub lineage: Lineage,
    pub body: &'a [u8],
    pub expiry: Option<i64>,
    pub access: Access,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// The header was read.
    Version(u32),
    Aux(Cow<'a, [u8]>, Cow<'a, [u8]>),
    SelectDb(usize),
    /// How many keys, and keys with an expiry, the database will hold.
    Resize {
        keys: u64,
        volatile: u64,
    },
    /// The code of a function library.
    Function(Cow<'a, [u8]>),
    Key(KeyItem<'a>),
    /// Something of a module's that was passed over: a sentence for the log.
    Skipped(String),
    /// The end, checksum included.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Header,
    Body,
    Checksum,
    Done,
}

pub struct Reader {
    buffer: Vec<u8>,
    /// Bytes of the buffer that are handed out.
    consumed: usize,
    /// Bytes of the buffer that the checksum has seen.
    summed: usize,
    /// Offset of the buffer's first byte.
    base: u64,
    /// The buffer's length at which trying again makes sense.
    wanted: usize,
    state: State,
    version: u32,
    lineage: Lineage,
    db: usize,
    checksum: Option<Checksum>,
    /// Of the current item.
    progress: Progress,
}

/// A string in the buffer, or one that had to be decoded.
enum Text {
    At(Range<usize>),
    Decoded(Vec<u8>),
}

enum Parsed {
    Version(u32, Lineage),
    Aux(Text, Text),
    SelectDb(u64),
    Resize(u64, u64),
    Function(Text),
    Key { key: Text, kind: u8, body: Range<usize>, expiry: Option<i64>, access: Access },
    Skipped(String),
    Nothing,
    LastItem,
    End,
}

impl Reader {
    /// `verify`: whether the checksum at the end is compared (it costs little).
    pub fn new(verify: bool) -> Self {
        Reader {
            buffer: Vec::new(),
            consumed: 0,
            summed: 0,
            base: 0,
            wanted: 0,
            state: State::Header,
            version: 0,
            lineage: Lineage::Redis,
            db: 0,
            checksum: verify.then(Checksum::new),
            progress: Progress::default(),
        }
    }

    /// Adds bytes that have arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.consumed > self.buffer.len() / 2 {
            self.sum_consumed();
            self.buffer.drain(..self.consumed);
            self.base += self.consumed as u64;
            self.wanted = self.wanted.saturating_sub(self.consumed);
            self.summed = 0;
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Offset behind the last item.
    pub fn offset(&self) -> u64 {
        self.base + self.consumed as u64
    }

    /// The database that was selected last.
    pub fn db(&self) -> usize {
        self.db
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// What was fed beyond the end (the commands of an AOF with a preamble).
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.consumed..]
    }

    /// The error of bytes that end before the file does.
    pub fn truncated(&self) -> LoadError {
        LoadError { offset: self.base + self.buffer.len() as u64, fault: Fault::Truncated(1) }
    }

    /// The next item, or nothing until more bytes are fed. After `End` there is nothing more.
    pub fn next_item(&mut self) -> std::result::Result<Option<Item<'_>>, LoadError> {
        loop {
            if self.state == State::Done || self.buffer.len() < self.wanted {
                return Ok(None);
            }
            let mut source = Source::new(&self.buffer[self.consumed..]);
            let mut progress = self.progress;
            let parsed = match self.parse(&mut source, &mut progress) {
                Ok(parsed) => parsed,
                Err(Fault::Truncated(lacking)) => {
                    self.wanted = self.buffer.len().saturating_add(lacking);
                    self.progress = progress;
                    return Ok(None);
                }
                Err(fault) => return Err(LoadError { offset: self.offset() + source.at() as u64, fault }),
            };
            let start = self.consumed;
            self.consumed += source.at();
            self.wanted = 0;
            self.progress = Progress::default();
            match parsed {
                Parsed::Nothing => {}
                Parsed::LastItem => {
                    self.sum_consumed();
                    self.state = if self.version >= 5 { State::Checksum } else { State::Done };
                    if self.state == State::Done {
                        return Ok(Some(Item::End));
                    }
                }
                parsed => return Ok(Some(self.item(parsed, start))),
            }
        }
    }

    fn item(&mut self, parsed: Parsed, start: usize) -> Item<'_> {
        match parsed {
            Parsed::Version(version, lineage) => {
                (self.version, self.lineage, self.state) = (version, lineage, State::Body);
                return Item::Version(version);
            }
            Parsed::SelectDb(db) => {
                self.db = db as usize;
                return Item::SelectDb(self.db);
            }
            _ => {}
        }
        let text = |text: Text| match text {
            Text::At(range) => Cow::Borrowed(&self.buffer[start + range.start..start + range.end]),
            Text::Decoded(bytes) => Cow::Owned(bytes),
        };
        match parsed {
            Parsed::Aux(key, value) => Item::Aux(text(key), text(value)),
            Parsed::Resize(keys, volatile) => Item::Resize { keys, volatile },
            Parsed::Function(code) => Item::Function(text(code)),
            Parsed::Key { key, kind, body, expiry, access } => Item::Key(KeyItem {
                db: self.db,
                key: text(key),
                kind,
                lineage: self.lineage,
                body: &self.buffer[start + body.start..start + body.end],
                expiry,
                access,
            }),
            Parsed::Skipped(what) => Item::Skipped(what),
            Parsed::Version(..) | Parsed::SelectDb(_) | Parsed::Nothing | Parsed::LastItem | Parsed::End => {
                self.state = State::Done;
                Item::End
            }
        }
    }

    fn sum_consumed(&mut self) {
        if let Some(checksum) = &mut self.checksum
            && self.summed < self.consumed
        {
            checksum.update(&self.buffer[self.summed..self.consumed]);
            self.summed = self.consumed;
        }
    }

    fn parse(&self, source: &mut Source<'_>, progress: &mut Progress) -> Result<Parsed> {
        match self.state {
            State::Header => header(source),
            State::Body => self.body(source, progress),
            State::Checksum => self.compare_checksum(source),
            State::Done => Ok(Parsed::Nothing),
        }
    }

    fn compare_checksum(&self, source: &mut Source<'_>) -> Result<Parsed> {
        let stored = u64::from_le_bytes(source.array()?);
        let Some(checksum) = &self.checksum else { return Ok(Parsed::End) };
        let computed = checksum.value();
        // Zero: the writer was told to spare itself the work.
        if stored == 0 || stored == computed {
            return Ok(Parsed::End);
        }
        Err(Fault::Damaged(
            format!("Wrong RDB checksum expected: ({stored:x}) but got ({computed:x}). RDB CRC error").into(),
        ))
    }

    fn body(&self, source: &mut Source<'_>, progress: &mut Progress) -> Result<Parsed> {
        let (mut expiry, mut access) = (None, Access::Unknown);
        loop {
            match source.byte()? {
                opcode::EXPIRE => expiry = Some(i64::from(i32::from_le_bytes(source.array()?)) * 1000),
                opcode::EXPIRE_MS => expiry = Some(source.i64_le()?),
                opcode::FREQ => access = Access::Frequency(source.byte()?),
                opcode::IDLE => access = Access::IdleSeconds(source.number()?),
                opcode::SELECTDB => return Ok(Parsed::SelectDb(source.number()?)),
                opcode::RESIZEDB => return Ok(Parsed::Resize(source.number()?, source.number()?)),
                opcode::SLOT_INFO => {
                    // Slot, keys, keys with an expiry: hints for sizing that we do without.
                    for _ in 0..3 {
                        source.number()?;
                    }
                    return Ok(Parsed::Nothing);
                }
                opcode::AUX => return Ok(Parsed::Aux(text(source)?, text(source)?)),
                opcode::FUNCTION2 => return Ok(Parsed::Function(text(source)?)),
                opcode::FUNCTION_PRE_GA => {
                    return Err(Fault::fixed("Pre-release function format not supported."));
                }
                opcode::MODULE_AUX => {
                    let module = frame::module_name(source.number()?);
                    frame::module_value(source)?;
                    let what = format!("The RDB file contains AUX module data of the module '{module}': skipped");
                    return Ok(Parsed::Skipped(what));
                }
                opcode::KEY_META => {
                    for _ in 0..source.number()? {
                        source.take(4)?;
                        frame::module_value(source)?;
                    }
                }
                opcode::EOF => return Ok(Parsed::LastItem),
                kind => return self.key(source, progress, kind, (expiry, access)),
            }
        }
    }

    fn key(
        &self,
        source: &mut Source<'_>,
        progress: &mut Progress,
        kind: u8,
        (expiry, access): (Option<i64>, Access),
    ) -> Result<Parsed> {
        let key = text(source)?;
        let start = source.at();
        frame::skip(kind, self.lineage, source, progress)?;
        if kind != kind::MODULE_2 {
            return Ok(Parsed::Key { key, kind, body: start..source.at(), expiry, access });
        }
        let mut body = Source::new(&self.buffer[self.consumed + start..]);
        let module = frame::module_name(body.number()?);
        let name = match &key {
            Text::At(range) => &self.buffer[self.consumed + range.start..self.consumed + range.end],
            Text::Decoded(bytes) => bytes,
        };
        let name = String::from_utf8_lossy(name).into_owned();
        Ok(Parsed::Skipped(format!("The key '{name}' holds a value of the module type '{module}': skipped")))
    }
}

fn text(source: &mut Source<'_>) -> Result<Text> {
    Ok(match source.string()? {
        Cow::Borrowed(text) => Text::At(source.at() - text.len()..source.at()),
        Cow::Owned(text) => Text::Decoded(text),
    })
}

fn header(source: &mut Source<'_>) -> Result<Parsed> {
    let magic = source.take(9)?;
    let (digits, valkey) = match magic.strip_prefix(b"REDIS") {
        Some(digits) => (digits, false),
        None => (magic.strip_prefix(b"VALKEY").unwrap_or_default(), true),
    };
    let version = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
    let version: u32 = version.ok_or(Fault::fixed("Wrong signature trying to load DB from file"))?;
    match format::lineage(version) {
        Some(lineage) if valkey == (lineage == Lineage::Valkey) => Ok(Parsed::Version(version, lineage)),
        _ => Err(Fault::Damaged(format!("Can't handle RDB format version {version}").into())),
    }
}
