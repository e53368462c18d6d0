//! What a script promises: the shebang of an EVAL script, or the flags of a registered function
//! (redis.io, "Redis Lua API reference", script flags).

use crate::commands::error::CommandError;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags {
    pub no_writes: bool,
    pub allow_oom: bool,
    pub allow_stale: bool,
    pub no_cluster: bool,
    pub allow_cross_slot_keys: bool,
    /// The script has no shebang: the old rules hold (writes are allowed, OOM is judged by each command).
    pub is_legacy: bool,
}

/// The names, as FUNCTION LIST answers them.
pub const NAMES: &[&str] = &["no-writes", "allow-oom", "allow-stale", "no-cluster", "allow-cross-slot-keys"];

impl ScriptFlags {
    pub const LEGACY: ScriptFlags = ScriptFlags {
        no_writes: false,
        allow_oom: false,
        allow_stale: false,
        no_cluster: false,
        allow_cross_slot_keys: true,
        is_legacy: true,
    };

    /// Whether a flag of this name is set.
    pub fn has(self, name: &[u8]) -> bool {
        match name {
            b"no-writes" => self.no_writes,
            b"allow-oom" => self.allow_oom,
            b"allow-stale" => self.allow_stale,
            b"no-cluster" => self.no_cluster,
            b"allow-cross-slot-keys" => self.allow_cross_slot_keys,
            _ => false,
        }
    }

    /// Adds a flag by its name; false if there is none of that name.
    pub fn add(&mut self, name: &[u8]) -> bool {
        match name {
            b"no-writes" => self.no_writes = true,
            b"allow-oom" => self.allow_oom = true,
            b"allow-stale" => self.allow_stale = true,
            b"no-cluster" => self.no_cluster = true,
            b"allow-cross-slot-keys" => self.allow_cross_slot_keys = true,
            _ => return false,
        }
        true
    }
}

/// Splits a script into its flags and the Lua text; the shebang's line is left empty, so that line numbers stay true.
pub fn of_script(body: &[u8]) -> Result<(ScriptFlags, &[u8]), CommandError> {
    if !body.starts_with(b"#!") {
        return Ok((ScriptFlags::LEGACY, body));
    }
    let end = body.iter().position(|byte| *byte == b'\n').ok_or(CommandError::fixed("ERR Invalid script shebang"))?;
    let mut words = body[..end].split(|byte| matches!(byte, b' ' | b'\r')).filter(|word| !word.is_empty());
    let engine = words.next().unwrap_or_default();
    if engine != b"#!lua" {
        return Err(CommandError::joined(&[b"ERR Unexpected engine in script shebang: ", engine]));
    }
    let mut flags = ScriptFlags::default();
    for word in words {
        let Some(list) = word.strip_prefix(b"flags=") else {
            return Err(CommandError::joined(&[b"ERR Unknown lua shebang option: ", word]));
        };
        for name in list.split(|byte| *byte == b',').filter(|name| !name.is_empty()) {
            if !flags.add(name) {
                return Err(CommandError::joined(&[b"ERR Unexpected flag in script shebang: ", name]));
            }
        }
    }
    Ok((flags, &body[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shebangs() {
        assert_eq!(of_script(b"return 1"), Ok((ScriptFlags::LEGACY, b"return 1".as_slice())));
        let (flags, text) = of_script(b"#!lua flags=no-writes,allow-oom\nreturn 1").expect("legal");
        assert!(flags.no_writes && flags.allow_oom && !flags.is_legacy && !flags.allow_stale);
        assert_eq!(text, b"\nreturn 1");
        for (body, error) in [
            ("#!lua", "ERR Invalid script shebang"),
            ("#!js\nx", "ERR Unexpected engine in script shebang: #!js"),
            ("#!lua name=x\n", "ERR Unknown lua shebang option: name=x"),
            ("#!lua flags=bad\n", "ERR Unexpected flag in script shebang: bad"),
        ] {
            assert_eq!(of_script(body.as_bytes()).expect_err("illegal").text(), error);
        }
    }
}
