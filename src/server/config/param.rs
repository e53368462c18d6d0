//! What is known of a directive, and the macro that turns the declarations of `params/` into `Config` and `PARAMS`.

use std::ops::BitOr;

use super::Config;
use super::value::Kind;

/// One directive: all that CONFIG, the file reader and the documentation need.
pub struct Param {
    pub name: &'static str,
    /// Older or newer names of the same directive.
    pub aliases: &'static [&'static str],
    pub kind: Kind,
    pub flags: Flags,
    pub doc: &'static str,
    pub(super) assign: fn(&mut Config, &[Vec<u8>]) -> Result<(), String>,
    pub(super) print: fn(&Config) -> Vec<u8>,
    pub(super) lines: fn(&Config) -> Vec<Vec<u8>>,
    pub(super) equal: fn(&Config, &Config) -> bool,
}

impl Param {
    pub fn is(&self, flag: Flags) -> bool {
        self.flags.0 & flag.0 != 0
    }

    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.name).chain(self.aliases.iter().copied())
    }

    /// As CONFIG GET prints it.
    pub fn print(&self, config: &Config) -> Vec<u8> {
        (self.print)(config)
    }

    /// Reads the words after the directive's name.
    pub fn assign(&self, config: &mut Config, words: &[Vec<u8>]) -> Result<(), String> {
        (self.assign)(config, words)
    }

    /// As CONFIG REWRITE writes it: the texts after the name, one per line.
    pub fn lines(&self, config: &Config) -> Vec<Vec<u8>> {
        (self.lines)(config)
    }

    pub fn same_in(&self, one: &Config, other: &Config) -> bool {
        (self.equal)(one, other)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flags(u16);

impl Flags {
    pub const NONE: Flags = Flags(0);
    /// Only at start.
    pub const IMMUTABLE: Flags = Flags(1 << 0);
    /// Shown by CONFIG GET only to those who ask for the exact name.
    pub const HIDDEN: Flags = Flags(1 << 1);
    /// CONFIG SET is subject to enable-protected-configs.
    pub const PROTECTED: Flags = Flags(1 << 2);
    /// The value never appears in logs, the slow log or MONITOR.
    pub const SENSITIVE: Flags = Flags(1 << 3);
    /// Takes several words.
    pub const MULTI_ARG: Flags = Flags(1 << 4);
    /// Not while a dataset is loading.
    pub const DENY_LOADING: Flags = Flags(1 << 5);
    /// Applied again even if the text is the same, since the file it names may have changed.
    pub const VOLATILE: Flags = Flags(1 << 6);
    /// Accepted for compatibility; this server has nothing that it could change.
    pub const NO_EFFECT: Flags = Flags(1 << 7);
    /// The directive may be repeated, each line adding to the earlier ones.
    pub const REPEATED: Flags = Flags(1 << 8);
}

impl Flags {
    /// `|` in constants.
    pub const fn and(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        self.and(other)
    }
}

/// Makes `Config`, its defaults and `PARAMS` from the entries that the group macros of `params/` have gathered:
///
/// `field: Type = default, "name" [| "alias"], kind, [FLAG...], "One line." [, check path::to::function];`
macro_rules! define_config {
    ([] $(
        $field:ident : $type:ty = $default:expr, $name:literal $(| $alias:literal)?, $kind:expr, [$($flag:ident)*], $doc:literal
        $(, check $check:path)?;
    )*) => {
        /// Every setting of the server. Cheap to share (`Arc`), never changed in place.
        #[derive(Clone)]
        pub struct Config {
            $(#[doc = $doc] pub $field: $type,)*
            /// The encoding thresholds in the engine's own form, derived from the directives above.
            pub limits: std::sync::Arc<crate::engine::limits::Limits>,
            /// Not a directive: the command line says so.
            pub is_sentinel: bool,
        }

        impl Default for Config {
            fn default() -> Self {
                let mut config = Config { $($field: $default,)* limits: Default::default(), is_sentinel: false };
                config.settle();
                config
            }
        }

        /// Every directive, in the order of the groups.
        pub static PARAMS: &[Param] = &[$(
            Param {
                name: $name,
                aliases: &[$($alias)?],
                kind: $kind,
                flags: Flags::NONE $(.and(Flags::$flag))*,
                doc: $doc,
                assign: |config, words| {
                    Value::assign(&mut config.$field, words, &$kind)?;
                    $($check(&config.$field)?;)?
                    Ok(())
                },
                print: |config| Value::print(&config.$field, &$kind),
                lines: |config| Value::rewrite_lines(&config.$field, &$kind),
                equal: |one, other| one.$field == other.$field,
            },
        )*];
    };
}
