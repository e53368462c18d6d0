//! Values that are one word out of a few, each an enum of its own.

use super::value::{Kind, Value, not_among, only_word};

macro_rules! choices {
    ($($(#[$doc:meta])* $type:ident { $($variant:ident = $word:literal $(| $other:literal)*),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type { $($variant),+ }

        impl $type {
            /// Every word, in the order in which Redis lists them.
            pub const WORDS: &[&str] = &[$($word $(, $other)*),+];
            pub const KIND: Kind = Kind::Choice(Self::WORDS);

            pub fn word(self) -> &'static str {
                match self { $($type::$variant => $word),+ }
            }
        }

        impl Value for $type {
            fn assign(&mut self, words: &[Vec<u8>], _: &Kind) -> Result<(), String> {
                let word = only_word(words).map_err(|_| not_among(Self::WORDS))?;
                let is = |other: &str| word.eq_ignore_ascii_case(other.as_bytes());
                *self = match () {
                    $(_ if is($word) $(|| is($other))* => $type::$variant,)+
                    () => return Err(not_among(Self::WORDS)),
                };
                Ok(())
            }

            fn print(&self, _: &Kind) -> Vec<u8> {
                self.word().as_bytes().to_vec()
            }
        }
    )+};
}

choices! {
    /// Whose names OBJECT ENCODING answers.
    EncodingNames { Redis70 = "redis-7.0", Redis72 = "redis-7.2" }
    MaxmemoryPolicy {
        VolatileLru = "volatile-lru",
        VolatileLfu = "volatile-lfu",
        VolatileRandom = "volatile-random",
        VolatileTtl = "volatile-ttl",
        AllkeysLru = "allkeys-lru",
        AllkeysLfu = "allkeys-lfu",
        AllkeysRandom = "allkeys-random",
        NoEviction = "noeviction",
    }
    SyslogFacility {
        User = "user",
        Local0 = "local0",
        Local1 = "local1",
        Local2 = "local2",
        Local3 = "local3",
        Local4 = "local4",
        Local5 = "local5",
        Local6 = "local6",
        Local7 = "local7",
    }
    LogLevel { Debug = "debug", Verbose = "verbose", Notice = "notice", Warning = "warning", Nothing = "nothing" }
    /// The layout of log lines: Redis's own, or one JSON object per line.
    LogFormat { Redis = "redis", Json = "json" }
    Supervised { Upstart = "upstart", Systemd = "systemd", Auto = "auto", No = "no" }
    Appendfsync { Everysec = "everysec", Always = "always", No = "no" }
    ReplDisklessLoad { Disabled = "disabled", OnEmptyDb = "on-empty-db", Swapdb = "swapdb" }
    TlsAuthClients { No = "no", Yes = "yes", Optional = "optional" }
    /// What of a client's certificate names the user that it is.
    TlsAuthClientsUser { Off = "off", CommonName = "CN" }
    OomScoreAdj { No = "no", Relative = "yes" | "relative", Absolute = "absolute" }
    AclPubsubDefault { Allchannels = "allchannels", Resetchannels = "resetchannels" }
    SanitizeDumpPayload { No = "no", Yes = "yes", Clients = "clients" }
    /// Who may do a thing that is closed by default: nobody, everybody, or clients of this machine.
    ProtectedAction { No = "no", Yes = "yes", Local = "local" }
    ClusterPreferredEndpointType { Ip = "ip", Hostname = "hostname", UnknownEndpoint = "unknown-endpoint" }
    PropagationErrorBehavior { Ignore = "ignore", Panic = "panic", PanicOnReplicas = "panic-on-replicas" }
}

impl ProtectedAction {
    pub fn allows(self, client_is_local: bool) -> bool {
        match self {
            ProtectedAction::No => false,
            ProtectedAction::Yes => true,
            ProtectedAction::Local => client_is_local,
        }
    }
}

impl MaxmemoryPolicy {
    /// Only keys with an expiry are candidates.
    pub fn is_volatile(self) -> bool {
        use MaxmemoryPolicy::*;
        matches!(self, VolatileLru | VolatileLfu | VolatileRandom | VolatileTtl)
    }

    /// Every key needs access bits of its own.
    pub fn needs_access_bits(self) -> bool {
        self.is_lru() || self.is_lfu()
    }

    pub fn is_lfu(self) -> bool {
        matches!(self, MaxmemoryPolicy::VolatileLfu | MaxmemoryPolicy::AllkeysLfu)
    }

    pub fn is_lru(self) -> bool {
        matches!(self, MaxmemoryPolicy::VolatileLru | MaxmemoryPolicy::AllkeysLru)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_case_insensitive_and_the_error_lists_them() {
        let mut mode = OomScoreAdj::No;
        mode.assign(&[b"RELATIVE".to_vec()], &OomScoreAdj::KIND).unwrap();
        assert_eq!((mode, mode.word()), (OomScoreAdj::Relative, "yes"));
        assert_eq!(
            mode.assign(&[b"x".to_vec()], &OomScoreAdj::KIND).unwrap_err(),
            "argument(s) must be one of the following: no, yes, relative, absolute"
        );
    }
}
