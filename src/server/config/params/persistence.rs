//! Snapshots and the append-only file.

group! { $ persistence_params {
    save: Vec<SavePoint> = default_save_points(), "save", Kind::Special("seconds changes..."), [MULTI_ARG REPEATED],
        "When to save: after so many seconds if so many keys changed; an empty text for never.";
    dbfilename: String = "dump.rdb".into(), "dbfilename", Kind::Text, [PROTECTED],
        "Name of the RDB file in dir.", check check::dbfilename;
    rdbcompression: bool = true, "rdbcompression", Kind::Bool, [],
        "Compress strings in RDB files.";
    rdbchecksum: bool = true, "rdbchecksum", Kind::Bool, [IMMUTABLE],
        "Write and verify the checksum at the end of RDB files.";
    rdb_version: u32 = 0, "rdb-version", Kind::integer(0, 15), [],
        "rsredis only. Version of the RDB files that are written; 0 for the lowest that can hold the data.";
    rdb_del_sync_files: bool = false, "rdb-del-sync-files", Kind::Bool, [],
        "Delete RDB files that were only needed to synchronize replicas.";
    rdb_save_incremental_fsync: bool = true, "rdb-save-incremental-fsync", Kind::Bool, [],
        "Sync an RDB file every few megabytes while it is written.";
    stop_writes_on_bgsave_error: bool = true, "stop-writes-on-bgsave-error", Kind::Bool, [],
        "Refuse writes after a failed snapshot.";
    sanitize_dump_payload: SanitizeDumpPayload = SanitizeDumpPayload::No, "sanitize-dump-payload", SanitizeDumpPayload::KIND, [],
        "Check loaded values deeply: no, yes, clients (RESTORE only).";
    rdb_key_save_delay: i64 = 0, "rdb-key-save-delay", Kind::integer(-INT_MAX - 1, INT_MAX), [HIDDEN],
        "For tests: microseconds to wait after each key saved; -n waits 1 after every n keys.";
    key_load_delay: i64 = 0, "key-load-delay", Kind::integer(-INT_MAX - 1, INT_MAX), [HIDDEN],
        "For tests: the same for keys loaded.";
    loading_process_events_interval_bytes: u64 = 2 << 20, "loading-process-events-interval-bytes", Kind::integer(1024, INT_MAX), [HIDDEN],
        "Bytes loaded between two answers to clients.";
    appendonly: bool = false, "appendonly", Kind::Bool, [DENY_LOADING],
        "Keep an append-only file.";
    appendfilename: String = "appendonly.aof".into(), "appendfilename", Kind::Text, [IMMUTABLE],
        "Base of the names of the append-only files.", check check::appendfilename;
    appenddirname: String = "appendonlydir".into(), "appenddirname", Kind::Text, [IMMUTABLE],
        "Directory of the append-only files in dir.", check check::appenddirname;
    appendfsync: Appendfsync = Appendfsync::Everysec, "appendfsync", Appendfsync::KIND, [],
        "When the append-only file is synced: always, everysec, no.";
    no_appendfsync_on_rewrite: bool = false, "no-appendfsync-on-rewrite", Kind::Bool, [],
        "Do not sync the append-only file while a snapshot is written.";
    auto_aof_rewrite_percentage: u32 = 100, "auto-aof-rewrite-percentage", Kind::integer(0, INT_MAX), [],
        "Growth in percent after which the append-only file is rewritten; 0 for never.";
    auto_aof_rewrite_min_size: u64 = 64 << 20, "auto-aof-rewrite-min-size", Kind::memory(0, LONG_MAX), [],
        "Size below which it is not rewritten by itself.";
    aof_load_truncated: bool = true, "aof-load-truncated", Kind::Bool, [],
        "Load an append-only file whose end is missing.";
    aof_use_rdb_preamble: bool = true, "aof-use-rdb-preamble", Kind::Bool, [],
        "Write the base of the append-only file as RDB.";
    aof_timestamp_enabled: bool = false, "aof-timestamp-enabled", Kind::Bool, [],
        "Write timestamps into the append-only file.";
    aof_rewrite_incremental_fsync: bool = true, "aof-rewrite-incremental-fsync", Kind::Bool, [],
        "Sync a rewritten append-only file every few megabytes.";
    aof_redo_log: bool = true, "aof-redo-log", Kind::Bool, [],
        "rsredis only. Under appendfsync always: sync a redo log beside the append-only file, which takes half the time, and the file in the background.";
    aof_disable_auto_gc: bool = false, "aof-disable-auto-gc", Kind::Bool, [],
        "For tests: keep append-only files that are no longer needed.";
} }
