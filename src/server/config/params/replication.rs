//! Replication, both ends.

group! { $ replication_params {
    replicaof: Option<PrimaryAddress> = None, "replicaof" | "slaveof", Kind::Special("host port"), [IMMUTABLE MULTI_ARG],
        "Be a replica of that server.";
    masteruser: Option<String> = None, "masteruser", Kind::Text, [SENSITIVE],
        "User to log in as on the primary.";
    masterauth: Option<Vec<u8>> = None, "masterauth", Kind::Text, [SENSITIVE],
        "Password for the primary.";
    replica_serve_stale_data: bool = true, "replica-serve-stale-data" | "slave-serve-stale-data", Kind::Bool, [],
        "Answer while the link to the primary is down.";
    replica_read_only: bool = true, "replica-read-only" | "slave-read-only", Kind::Bool, [],
        "Refuse writes of clients on a replica.";
    replica_ignore_maxmemory: bool = true, "replica-ignore-maxmemory" | "slave-ignore-maxmemory", Kind::Bool, [],
        "A replica does not evict; its primary does.";
    replica_ignore_disk_write_errors: bool = false, "replica-ignore-disk-write-errors", Kind::Bool, [],
        "A replica goes on when it cannot write to its disk.";
    replica_lazy_flush: bool = false, "replica-lazy-flush" | "slave-lazy-flush", Kind::Bool, [],
        "Free the old dataset in the background when a full synchronization comes.";
    replica_priority: u32 = 100, "replica-priority" | "slave-priority", Kind::integer(0, INT_MAX), [],
        "Sentinel promotes the lowest first; 0 for never.";
    replica_announced: bool = true, "replica-announced", Kind::Bool, [],
        "Let Sentinel tell clients of this replica.";
    replica_announce_ip: Option<String> = None, "replica-announce-ip" | "slave-announce-ip", Kind::Text, [],
        "Address that the primary shall tell others.";
    replica_announce_port: u16 = 0, "replica-announce-port" | "slave-announce-port", Kind::integer(0, 65535), [],
        "Port that the primary shall tell others; 0 for the real one.";
    min_replicas_to_write: u32 = 0, "min-replicas-to-write" | "min-slaves-to-write", Kind::integer(0, INT_MAX), [],
        "Refuse writes with fewer good replicas than this; 0 for never.";
    min_replicas_max_lag: u32 = 10, "min-replicas-max-lag" | "min-slaves-max-lag", Kind::integer(0, INT_MAX), [],
        "Seconds since its last word up to which a replica is good.";
    repl_diskless_sync: bool = true, "repl-diskless-sync", Kind::Bool, [],
        "Send snapshots to replicas without a file.";
    repl_diskless_sync_delay: u32 = 5, "repl-diskless-sync-delay", Kind::integer(0, INT_MAX), [],
        "Seconds to wait for more replicas before such a snapshot, if this is not the default or repl-diskless-sync-max-replicas is set.";
    repl_diskless_sync_max_replicas: u32 = 0, "repl-diskless-sync-max-replicas", Kind::integer(0, INT_MAX), [],
        "Start at once when so many replicas wait; 0 for no such number.";
    repl_diskless_load: ReplDisklessLoad = ReplDisklessLoad::Disabled, "repl-diskless-load", ReplDisklessLoad::KIND, [DENY_LOADING],
        "Load a snapshot straight from the socket: disabled, on-empty-db, swapdb.";
    repl_ping_replica_period: u32 = 10, "repl-ping-replica-period" | "repl-ping-slave-period", Kind::integer(1, INT_MAX), [],
        "Seconds between PINGs to replicas.";
    repl_timeout: u32 = 60, "repl-timeout", Kind::integer(1, INT_MAX), [],
        "Seconds of silence after which a link is given up.";
    repl_disable_tcp_nodelay: bool = false, "repl-disable-tcp-nodelay", Kind::Bool, [],
        "Fewer packets to replicas, at the price of delay.";
    repl_backlog_size: u64 = 1 << 20, "repl-backlog-size", Kind::memory(1, LONG_MAX), [],
        "Bytes of the stream kept for replicas that come back.";
    repl_backlog_ttl: u64 = 3600, "repl-backlog-ttl", Kind::integer(0, i64::MAX), [],
        "Seconds without replicas after which the backlog is freed; 0 for never.";
    repl_spill_size: u64 = 0, "repl-spill-size", Kind::memory(0, LONG_MAX), [],
        "Bytes of the stream that may lie on disk for replicas that are far behind; 0 for none.";
    repl_rdb_channel: bool = false, "repl-rdb-channel", Kind::Bool, [NO_EFFECT],
        "The snapshot travels on the replica's own link here.";
    replica_full_sync_buffer_limit: u64 = 0, "replica-full-sync-buffer-limit", Kind::memory(0, LONG_MAX), [NO_EFFECT],
        "Belongs to repl-rdb-channel.";
} }
