//! Values with a syntax of their own: save points, buffer limits, event classes, addresses, percentiles.

use crate::commands::effects::EventClasses;

use super::value::{Kind, Value, WRONG_NUMBER, not_among, print_memory, read_memory, read_text};

/// `save <seconds> <changes>`: a snapshot when that many changes are that old.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    pub seconds: u64,
    pub changes: u64,
}

impl Value for Vec<SavePoint> {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        let words = without_empty_word(words);
        let numbers: Option<Vec<i64>> = words.iter().map(|word| read_integer(word)).collect();
        let points = numbers.filter(|numbers| numbers.len() % 2 == 0).and_then(|numbers| {
            let pairs = numbers.chunks_exact(2);
            pairs
                .map(|pair| match (u64::try_from(pair[0]), u64::try_from(pair[1])) {
                    (Ok(seconds), Ok(changes)) if seconds >= 1 => Some(SavePoint { seconds, changes }),
                    _ => None,
                })
                .collect()
        });
        *self = points.ok_or("Invalid save parameters")?;
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        join(self.iter().map(|point| format!("{} {}", point.seconds, point.changes)))
    }

    fn rewrite_lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        if self.is_empty() {
            return vec![b"\"\"".to_vec()];
        }
        self.iter().map(|point| format!("{} {}", point.seconds, point.changes).into_bytes()).collect()
    }
}

/// Limits of what may wait for a slow reader: at once, or for that many seconds on end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputBufferLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

impl OutputBufferLimit {
    /// The same limit where nothing below `bytes` counts.
    pub fn at_least(self, bytes: u64) -> Self {
        let raise = |limit: u64| if limit == 0 { 0 } else { limit.max(bytes) };
        OutputBufferLimit { hard_bytes: raise(self.hard_bytes), soft_bytes: raise(self.soft_bytes), ..self }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputBufferLimits {
    pub normal: OutputBufferLimit,
    pub replica: OutputBufferLimit,
    pub pubsub: OutputBufferLimit,
}

impl Default for OutputBufferLimits {
    fn default() -> Self {
        let limit = |hard_bytes, soft_bytes, soft_seconds| OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds };
        OutputBufferLimits {
            normal: limit(0, 0, 0),
            replica: limit(256 << 20, 64 << 20, 60),
            pubsub: limit(32 << 20, 8 << 20, 60),
        }
    }
}

impl Value for OutputBufferLimits {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        if !words.len().is_multiple_of(4) {
            return Err("Wrong number of arguments in buffer limit configuration.".into());
        }
        for part in words.chunks_exact(4) {
            let limit = match part[0].to_ascii_lowercase().as_slice() {
                b"normal" => &mut self.normal,
                b"slave" | b"replica" => &mut self.replica,
                b"pubsub" => &mut self.pubsub,
                _ => return Err("Invalid client class specified in buffer limit configuration.".into()),
            };
            let seconds = read_integer(&part[3]).and_then(|seconds| u64::try_from(seconds).ok());
            let (Some(hard_bytes), Some(soft_bytes), Some(soft_seconds)) =
                (read_memory(&part[1]), read_memory(&part[2]), seconds)
            else {
                return Err("Error in hard, soft or soft_seconds setting in buffer limit configuration.".into());
            };
            *limit = OutputBufferLimit { hard_bytes, soft_bytes, soft_seconds };
        }
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        let classes = [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)];
        join(classes.iter().map(|(name, l)| format!("{name} {} {} {}", l.hard_bytes, l.soft_bytes, l.soft_seconds)))
    }

    fn rewrite_lines(&self, _: &Kind) -> Vec<Vec<u8>> {
        let classes = [("normal", self.normal), ("replica", self.replica), ("pubsub", self.pubsub)];
        let line = |(name, limit): &(&str, OutputBufferLimit)| {
            let (hard, soft) = (print_memory(limit.hard_bytes), print_memory(limit.soft_bytes));
            format!("{name} {hard} {soft} {}", limit.soft_seconds).into_bytes()
        };
        classes.iter().map(line).collect()
    }
}

impl Value for EventClasses {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        let [letters] = words else { return Err(WRONG_NUMBER.into()) };
        let classes = std::str::from_utf8(letters).ok().and_then(EventClasses::parse);
        *self = classes.ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        self.letters().into_bytes()
    }

    fn rewrite_lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
        vec![crate::base::quoting::quote(&self.print(kind))]
    }
}

/// `bind`: none means all interfaces; a leading `-` on an address allows it to be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddresses(pub Vec<String>);

impl Value for BindAddresses {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        if words.len() > 16 {
            return Err("Too many bind addresses specified.".into());
        }
        self.0 = without_empty_word(words).iter().map(|word| read_text(word)).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        join(self.0.iter().cloned())
    }

    fn rewrite_lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
        if self.0.is_empty() { vec![b"\"\"".to_vec()] } else { vec![self.print(kind)] }
    }
}

/// The primary that this server replicates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryAddress {
    pub host: String,
    pub port: u16,
}

impl Value for Option<PrimaryAddress> {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        let [host, port] = words else { return Err(WRONG_NUMBER.into()) };
        if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
            *self = None;
            return Ok(());
        }
        let port = read_integer(port).and_then(|port| u16::try_from(port).ok()).ok_or("Invalid master port")?;
        *self = Some(PrimaryAddress { host: read_text(host)?, port });
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        self.as_ref().map(|primary| format!("{} {}", primary.host, primary.port)).unwrap_or_default().into_bytes()
    }

    fn rewrite_lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
        self.iter().map(|_| self.print(kind)).collect()
    }
}

/// `oom-score-adj-values`: for a primary, a replica, and (in Redis) a child process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OomScoreAdjValues(pub [i32; 3]);

impl Value for OomScoreAdjValues {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        let [primary, replica, child] = words else { return Err(WRONG_NUMBER.into()) };
        let read = |word: &Vec<u8>| {
            read_integer(word)
                .filter(|value| (-2000..=2000).contains(value))
                .map(|value| value as i32)
                .ok_or("Invalid oom-score-adj-values, elements must be between -2000 and 2000.")
        };
        self.0 = [read(primary)?, read(replica)?, read(child)?];
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        join(self.0.iter().map(i32::to_string))
    }
}

/// The percentiles of INFO latencystats.
#[derive(Clone, Debug, PartialEq)]
pub struct Percentiles(pub Vec<f64>);

impl Percentiles {
    /// Six decimals at most, without trailing zeros.
    pub fn text(percentile: f64) -> String {
        let text = format!("{percentile:.6}");
        text.trim_end_matches('0').trim_end_matches('.').to_string()
    }
}

impl Value for Percentiles {
    fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
        let read = |word: &Vec<u8>| -> Result<f64, &str> {
            let number = std::str::from_utf8(word).ok().and_then(|text| text.parse::<f64>().ok());
            let number =
                number.filter(|n| !n.is_nan()).ok_or("Invalid latency-tracking-info-percentiles parameters")?;
            if !(0.0..=100.0).contains(&number) {
                return Err("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]");
            }
            Ok(number)
        };
        self.0 = without_empty_word(words).iter().map(read).collect::<Result<_, _>>()?;
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        join(self.0.iter().map(|percentile| Self::text(*percentile)))
    }

    fn rewrite_lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
        if self.0.is_empty() { vec![b"\"\"".to_vec()] } else { vec![self.print(kind)] }
    }
}

/// What a signal asks of the shutdown; nothing set is the default behaviour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShutdownFlags {
    pub save: bool,
    pub nosave: bool,
    pub now: bool,
    pub force: bool,
}

impl ShutdownFlags {
    pub const KIND: Kind = Kind::Choice(&["default", "save", "nosave", "now", "force"]);
}

impl Value for ShutdownFlags {
    fn assign(&mut self, words: &[Vec<u8>], kind: &Kind) -> Result<(), String> {
        let mut flags = ShutdownFlags::default();
        for word in words {
            match word.to_ascii_lowercase().as_slice() {
                b"default" => {}
                b"save" => flags.save = true,
                b"nosave" => flags.nosave = true,
                b"now" => flags.now = true,
                b"force" => flags.force = true,
                _ => return Err(not_among(choice_words(kind))),
            }
        }
        if words.is_empty() {
            return Err(not_among(choice_words(kind)));
        }
        if flags.save && flags.nosave {
            return Err("shutdown options SAVE and NOSAVE can't be used simultaneously".into());
        }
        *self = flags;
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        if *self == ShutdownFlags::default() {
            return b"default".to_vec();
        }
        let flags = [("save", self.save), ("nosave", self.nosave), ("now", self.now), ("force", self.force)];
        join(flags.iter().filter(|(_, set)| *set).map(|(name, _)| (*name).to_string()))
    }
}

fn choice_words(kind: &Kind) -> &'static [&'static str] {
    match kind {
        Kind::Choice(words) => words,
        _ => &[],
    }
}

/// A limit in bytes, or in percent of maxmemory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLimit {
    Bytes(u64),
    Percent(u32),
}

impl MemoryLimit {
    /// The limit in bytes; 0 (none) for a percentage while maxmemory is not set.
    pub fn bytes(self, maxmemory: u64) -> u64 {
        match self {
            MemoryLimit::Bytes(bytes) => bytes,
            MemoryLimit::Percent(percent) => (u128::from(maxmemory) * u128::from(percent) / 100) as u64,
        }
    }
}

impl Value for MemoryLimit {
    fn assign(&mut self, words: &[Vec<u8>], kind: &Kind) -> Result<(), String> {
        let word = super::value::only_word(words)?;
        if let Some(bytes) = read_memory(word) {
            let max = if let Kind::MemoryOrPercent { max } = kind { *max } else { i128::from(i64::MAX) };
            if bytes > i64::MAX as u64 {
                // Redis takes it for a negative number, which is how it tells percents.
                return Err("percentage argument must be less or equal to 100".into());
            }
            if i128::from(bytes) > max {
                return Err(format!("argument must be between -100 and {max} inclusive"));
            }
            *self = MemoryLimit::Bytes(bytes);
            return Ok(());
        }
        let percent = word.strip_suffix(b"%").and_then(crate::base::number::parse_u64);
        let percent = percent.ok_or("argument must be a memory or percent value")?;
        if percent > 100 {
            return Err("percentage argument must be less or equal to 100".into());
        }
        // Redis cannot tell 0 % from none.
        *self = if percent == 0 { MemoryLimit::Bytes(0) } else { MemoryLimit::Percent(percent as u32) };
        Ok(())
    }

    fn print(&self, _: &Kind) -> Vec<u8> {
        match self {
            MemoryLimit::Bytes(bytes) => bytes.to_string().into_bytes(),
            MemoryLimit::Percent(percent) => format!("{percent}%").into_bytes(),
        }
    }

    fn rewrite_lines(&self, kind: &Kind) -> Vec<Vec<u8>> {
        match self {
            MemoryLimit::Bytes(bytes) => vec![print_memory(*bytes).into_bytes()],
            MemoryLimit::Percent(_) => vec![self.print(kind)],
        }
    }
}

/// A single empty word means none at all, as in `save ""`.
fn without_empty_word(words: &[Vec<u8>]) -> &[Vec<u8>] {
    match words {
        [word] if word.is_empty() => &[],
        _ => words,
    }
}

fn read_integer(word: &[u8]) -> Option<i64> {
    std::str::from_utf8(word).ok()?.parse().ok()
}

fn join(parts: impl Iterator<Item = String>) -> Vec<u8> {
    parts.collect::<Vec<_>>().join(" ").into_bytes()
}
