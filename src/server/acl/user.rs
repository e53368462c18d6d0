//! A user: who may log in as it, and what it may do.

use super::selector::{Denied, Selector};
use crate::commands::keyspec::KeyFlags;
use crate::resp::Args;
use crate::server::table::{CommandTable, Entry};
use sha2::{Digest, Sha256};

/// A password as it is kept: SHA-256 in lower-case hexadecimal.
pub type PasswordHash = [u8; 64];

/// The rule about payloads of RESTORE. Here every payload is checked; the flag is kept for the tools that set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sanitize {
    Unsaid,
    Skip,
    Yes,
}

/// Never changed in place: a change makes a new value that takes the place of the old one.
#[derive(Clone, Debug)]
pub struct User {
    /// The same for all versions of a user; another one for a user who is made anew under an old name.
    pub id: u64,
    pub name: Box<[u8]>,
    pub enabled: bool,
    /// Any password will do.
    pub nopass: bool,
    pub sanitize: Sanitize,
    pub passwords: Vec<PasswordHash>,
    pub root: Selector,
    pub selectors: Vec<Selector>,
    /// Some selector allows everything. Derived: `settle`.
    unrestricted: bool,
}

impl User {
    /// A user as ACL SETUSER makes it: nobody can log in, and it may do nothing.
    pub fn new(id: u64, name: &[u8], table: &CommandTable, all_channels: bool) -> Self {
        User {
            id,
            name: name.into(),
            enabled: false,
            nopass: false,
            sanitize: Sanitize::Unsaid,
            passwords: Vec::new(),
            root: Selector::new(table, all_channels),
            selectors: Vec::new(),
            unrestricted: false,
        }
    }

    /// To be called after changes, before anybody asks.
    pub fn settle(mut self, table: &CommandTable) -> Self {
        let unrestricted = self.all_selectors().any(|selector| selector.is_unrestricted(table));
        self.unrestricted = unrestricted;
        self
    }

    pub fn all_selectors(&self) -> impl Iterator<Item = &Selector> {
        std::iter::once(&self.root).chain(&self.selectors)
    }

    #[inline]
    pub fn is_unrestricted(&self) -> bool {
        self.unrestricted
    }

    /// Whether new connections may act as this user without a word (asked of the default user).
    pub fn is_open(&self) -> bool {
        self.enabled && self.nopass
    }

    /// Whether a password opens the user. Takes as long whichever of the passwords it is, and how much of it is right.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let hash = hash_password(password);
        let found = self.passwords.iter().fold(false, |found, known| found | same_bytes(known, &hash));
        self.enabled && (self.nopass || found)
    }

    /// Whether a request is allowed. If no selector allows it, the one that comes farthest tells why.
    pub fn check(&self, entry: &Entry, args: Args<'_>) -> Result<(), Denied> {
        if self.unrestricted {
            return Ok(());
        }
        let mut reason = Denied::Command;
        for selector in self.all_selectors() {
            match selector.check(entry, args) {
                Ok(()) => return Ok(()),
                Err(denied) => reason = reason.max(denied),
            }
        }
        Err(reason)
    }

    /// Whether a selector that allows the request lets every key be read as well.
    pub fn may_read_any_key(&self, entry: &Entry, args: Args<'_>) -> bool {
        self.unrestricted
            || self.all_selectors().any(|selector| selector.reads_every_key() && selector.check(entry, args).is_ok())
    }

    pub fn may_read(&self, key: &[u8]) -> bool {
        self.unrestricted || self.all_selectors().any(|selector| selector.allows_key(key, KeyFlags::READS))
    }

    pub fn allows_channel(&self, name: &[u8], is_pattern: bool) -> bool {
        self.unrestricted || self.all_selectors().any(|selector| selector.allows_channel(name, is_pattern))
    }
}

pub fn hash_password(password: &[u8]) -> PasswordHash {
    let mut hex = [0; 64];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(Sha256::digest(password)) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

/// Compares in a time that does not tell where the first difference is.
fn same_bytes(a: &PasswordHash, b: &PasswordHash) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_kept_as_sha256() {
        let hash = hash_password(b"pw");
        assert_eq!(&hash, b"30c952fab122c3f9759f02a6d95c3758b246b4fee239957b2d4fee46e26170c4");
        assert!(same_bytes(&hash, &hash_password(b"pw")));
        assert!(!same_bytes(&hash, &hash_password(b"pW")));
    }
}
