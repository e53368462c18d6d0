//! The times of Sentinel, in milliseconds: SENTINEL DEBUG shows and changes them, so each is declared once, here.

/// One time: its name, in the order of SENTINEL DEBUG, and where it is kept.
pub struct Period {
    pub name: &'static str,
    pub at: fn(&mut Periods) -> &mut i64,
}

macro_rules! periods {
    ($($(#[$doc:meta])* $field:ident, $name:literal, $default:expr;)*) => {
        #[derive(Clone, Debug)]
        pub struct Periods { $($(#[$doc])* pub $field: i64,)* }

        pub const PERIODS: &[Period] =
            &[$(Period { name: $name, at: |periods| &mut periods.$field },)*];

        impl Default for Periods {
            fn default() -> Self {
                Periods { $($field: $default,)* }
            }
        }
    };
}

periods! {
    /// Between two INFO.
    info, "info-period", 10_000;
    ping, "ping-period", 1000;
    /// Between two questions to other sentinels about a primary that is down.
    ask, "ask-period", 1000;
    /// Between two messages to the hello channel.
    publish, "publish-period", 2000;
    /// down-after-milliseconds of primaries that say nothing of it.
    default_down_after, "default-down-after", 30_000;
    default_failover_timeout, "default-failover-timeout", 180_000;
    /// A timer that comes later than this means that the clock cannot be trusted.
    tilt_trigger, "tilt-trigger", 2000;
    tilt, "tilt-period", 30_000;
    /// A replica that does not react to REPLICAOF for so long counts as done.
    reconf_timeout, "slave-reconf-timeout", 10_000;
    /// A connection younger than this is not given up for its silence.
    min_reconnect, "min-link-reconnect-period", 15_000;
    election_timeout, "election-timeout", 10_000;
    script_max_runtime, "script-max-runtime", 60_000;
    script_retry_delay, "script-retry-delay", 30_000;
}

/// The failover of a primary begins up to so much later than it could, so that sentinels do not all ask for votes at once.
pub const DESYNC_MAX_MS: u64 = 1000;
/// Requests that wait for a reply, per user of a connection, before nothing but urgent ones is sent.
pub const PENDING_MAX: usize = 100;
