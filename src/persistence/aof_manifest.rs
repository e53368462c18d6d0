//! The manifest of the append-only file: which files hold the data set, in which order.
//!
//! ```text
//! file appendonly.aof.2.base.rdb seq 2 type b      the data set at some time
//! file appendonly.aof.3.incr.aof seq 3 type i      what came after it, in order
//! file appendonly.aof.1.base.rdb seq 1 type h      no longer needed, to be deleted
//! ```

use crate::base::quoting;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub name: String,
    pub seq: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    pub base: Option<Part>,
    pub incr: Vec<Part>,
    /// The newest first.
    pub history: Vec<Part>,
    /// Highest numbers given so far.
    pub base_seq: i64,
    pub incr_seq: i64,
}

/// Longest line, with its end.
const LINE_MAX: usize = 1024;

/// What is wrong, in Redis's words, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError {
    pub line_number: usize,
    pub line: String,
    pub what: &'static str,
}

impl Manifest {
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.incr.is_empty()
    }

    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut manifest = Manifest::default();
        let fault = |line_number, line: &str, what| ManifestError { line_number, line: line.to_owned(), what };
        if text.is_empty() {
            return Err(fault(0, "", "Found an empty AOF manifest"));
        }
        for (index, line) in text.split_inclusive('\n').enumerate() {
            if line.starts_with('#') {
                continue;
            }
            if line.len() >= LINE_MAX || !line.ends_with('\n') {
                return Err(fault(index + 1, line, "The AOF manifest file contains too long line"));
            }
            manifest.add_line(line.trim()).map_err(|what| fault(index + 1, line.trim(), what))?;
        }
        Ok(manifest)
    }

    fn add_line(&mut self, line: &str) -> Result<(), &'static str> {
        const FORMAT: &str = "Invalid AOF manifest file format";
        let words = quoting::split_args(line.as_bytes()).ok_or(FORMAT)?;
        if words.len() < 6 || !words.len().is_multiple_of(2) {
            return Err(FORMAT);
        }
        let (mut name, mut seq, mut kind) = (None, 0, None);
        for pair in words.chunks_exact(2) {
            let text = String::from_utf8_lossy(&pair[1]).into_owned();
            match pair[0].to_ascii_lowercase().as_slice() {
                b"file" if text.contains('/') => return Err("File can't be a path, just a filename"),
                b"file" => name = Some(text),
                b"seq" => seq = text.parse().unwrap_or(0),
                b"type" => kind = text.bytes().next(),
                _ => {}
            }
        }
        let (Some(name), Some(kind)) = (name, kind) else { return Err(FORMAT) };
        if seq == 0 {
            return Err(FORMAT);
        }
        let part = Part { name, seq };
        match kind {
            b'b' if self.base.is_some() => return Err("Found duplicate base file information"),
            b'b' => {
                self.base_seq = seq;
                self.base = Some(part);
            }
            b'h' => self.history.push(part),
            b'i' if seq <= self.incr_seq => return Err("Found a non-monotonic sequence number"),
            b'i' => {
                self.incr_seq = seq;
                self.incr.push(part);
            }
            _ => return Err("Unknown AOF file type"),
        }
        Ok(())
    }

    pub fn text(&self) -> String {
        let history = self.history.iter().map(|part| (part, 'h'));
        let incr = self.incr.iter().map(|part| (part, 'i'));
        let line = |(part, kind): (&Part, char)| {
            let plain = part.name.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b'\\'));
            let name = if plain {
                part.name.clone()
            } else {
                String::from_utf8_lossy(&quoting::quote(part.name.as_bytes())).into_owned()
            };
            format!("file {name} seq {} type {kind}\n", part.seq)
        };
        self.base.iter().map(|part| (part, 'b')).chain(history).chain(incr).map(line).collect()
    }

    /// A new base, which takes the place of the old one.
    pub fn replace_base(&mut self, stem: &str, rdb: bool) -> Part {
        self.base_seq += 1;
        let part = Part {
            name: format!("{stem}.{}.base.{}", self.base_seq, if rdb { "rdb" } else { "aof" }),
            seq: self.base_seq,
        };
        self.history.splice(0..0, self.base.replace(part.clone()));
        part
    }

    /// The next file of commands; not in the manifest until `add_incr`.
    pub fn next_incr(&mut self, stem: &str) -> Part {
        self.incr_seq += 1;
        Part { name: format!("{stem}.{}.incr.aof", self.incr_seq), seq: self.incr_seq }
    }

    /// The base now holds what these files held.
    pub fn retire_incr_before(&mut self, seq: i64) {
        let (old, new) = std::mem::take(&mut self.incr).into_iter().partition(|part| part.seq < seq);
        let old: Vec<Part> = old;
        self.history.splice(0..0, old.into_iter().rev());
        self.incr = new;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes() {
        let text =
            "file \"a b.1.base.rdb\" seq 1 type b\nfile a.1.incr.aof seq 1 type i\nfile a.4.incr.aof seq 4 type i\n";
        let mut manifest = Manifest::parse(text).expect("sound");
        assert_eq!(manifest.text(), text);
        let incr = manifest.next_incr("a");
        manifest.replace_base("a", true);
        manifest.incr.push(incr.clone());
        manifest.retire_incr_before(incr.seq);
        let wanted = "file a.2.base.rdb seq 2 type b\nfile a.4.incr.aof seq 4 type h\nfile a.1.incr.aof seq 1 type h\nfile \
                      \"a b.1.base.rdb\" seq 1 type h\nfile a.5.incr.aof seq 5 type i\n";
        assert_eq!(manifest.text(), wanted);
    }

    #[test]
    fn refuses_in_redis_s_words() {
        for (text, what) in [
            ("", "Found an empty AOF manifest"),
            ("\n", "Invalid AOF manifest file format"),
            ("file a seq 1 type x\n", "Unknown AOF file type"),
            ("file a seq 1 typ b\n", "Invalid AOF manifest file format"),
            ("file a/b seq 1 type b\n", "File can't be a path, just a filename"),
            ("file a seq 2 type i\nfile b seq 2 type i\n", "Found a non-monotonic sequence number"),
            ("file a seq 2 type b\nfile b seq 3 type b\n", "Found duplicate base file information"),
        ] {
            assert_eq!(Manifest::parse(text).map_err(|error| error.what), Err(what), "{text}");
        }
    }
}
