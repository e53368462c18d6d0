//! What commands need to know of configuration and role. A worker keeps one copy and renews it when either changes.

use crate::engine::keyspace::OnExpired;
use crate::engine::limits::Limits;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct Settings {
    pub limits: Arc<Limits>,
    pub databases: usize,
    /// In a cluster there is only database 0.
    pub cluster_enabled: bool,
    /// OBJECT ENCODING answers the names of Redis 7.0, which had no packed lists and sets.
    pub old_encoding_names: bool,
    /// Longest string that a command may make.
    pub bulk_len_max: usize,
    /// An LFU policy is set: the access bits hold a counter instead of a clock.
    pub lfu: bool,
    /// Redis shares small integers between keys, unless each needs access bits of its own.
    pub shares_integers: bool,
    pub lfu_log_factor: u32,
    pub lfu_decay_minutes: u32,
    pub on_expired: OnExpired,
    /// lazyfree-lazy-*: DEL as UNLINK, implicit deletions, expiry, and eviction in the background.
    pub lazy_user_del: bool,
    pub lazy_server_del: bool,
    pub lazy_expire: bool,
    pub lazy_user_flush: bool,
    /// Whether DUMP compresses, as files do.
    pub rdb_compression: bool,
    /// For tests: RESTORE takes payloads whose checksum is wrong.
    pub skip_checksum: bool,
    /// Classes of keyspace events that somebody wants; empty if none.
    pub notify: super::effects::EventClasses,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            limits: Arc::new(Limits::default()),
            databases: 16,
            cluster_enabled: false,
            old_encoding_names: true,
            bulk_len_max: 512 << 20,
            lfu: false,
            shares_integers: true,
            lfu_log_factor: 10,
            lfu_decay_minutes: 1,
            on_expired: OnExpired::Remove,
            lazy_user_del: false,
            lazy_server_del: false,
            lazy_expire: false,
            lazy_user_flush: false,
            rdb_compression: true,
            skip_checksum: false,
            notify: super::effects::EventClasses::NONE,
        }
    }
}
