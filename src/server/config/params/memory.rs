//! Limits of memory, eviction, expiry, freeing.

group! { $ memory_params {
    maxmemory: u64 = 0, "maxmemory", Kind::memory(0, u64::MAX), [],
        "Memory for the data, in bytes; 0 for no limit.";
    maxmemory_policy: MaxmemoryPolicy = MaxmemoryPolicy::NoEviction, "maxmemory-policy", MaxmemoryPolicy::KIND, [],
        "What happens at the limit: noeviction, or evict by lru, lfu, random (allkeys or volatile), volatile-ttl.";
    maxmemory_samples: u32 = 5, "maxmemory-samples", Kind::integer(1, INT_MAX), [],
        "Keys looked at to choose one to evict.";
    maxmemory_eviction_tenacity: u32 = 10, "maxmemory-eviction-tenacity", Kind::integer(0, 100), [],
        "How long eviction may hold up commands: 0 short, 100 until done.";
    lfu_log_factor: u32 = 10, "lfu-log-factor", Kind::integer(0, INT_MAX), [],
        "The higher, the slower the frequency counter grows.";
    lfu_decay_time: u32 = 1, "lfu-decay-time", Kind::integer(0, INT_MAX), [],
        "Minutes after which the frequency counter of an idle key shrinks by one.";
    active_expire_effort: u32 = 1, "active-expire-effort", Kind::integer(1, 10), [],
        "Work spent on deleting expired keys that nobody reads, from 1 to 10.";
    lazyfree_lazy_eviction: bool = false, "lazyfree-lazy-eviction", Kind::Bool, [],
        "Free evicted values in the background.";
    lazyfree_lazy_expire: bool = false, "lazyfree-lazy-expire", Kind::Bool, [],
        "Free expired values in the background.";
    lazyfree_lazy_server_del: bool = false, "lazyfree-lazy-server-del", Kind::Bool, [],
        "Free values that a command overwrites in the background.";
    lazyfree_lazy_user_del: bool = false, "lazyfree-lazy-user-del", Kind::Bool, [],
        "DEL behaves as UNLINK.";
    lazyfree_lazy_user_flush: bool = false, "lazyfree-lazy-user-flush", Kind::Bool, [],
        "FLUSHALL, FLUSHDB and their kin are ASYNC by default.";
    activerehashing: bool = true, "activerehashing", Kind::Bool, [],
        "Let background work move idle tables that are growing or shrinking.";
    jemalloc_bg_thread: bool = true, "jemalloc-bg-thread", Kind::Bool, [],
        "Let the allocator give back memory in a thread of its own.";
    activedefrag: bool = false, "activedefrag", Kind::Bool, [NO_EFFECT],
        "Values are not moved to defragment memory here; CONFIG SET activedefrag yes says so.";
    active_defrag_ignore_bytes: u64 = 100 << 20, "active-defrag-ignore-bytes", Kind::memory(1, LONG_MAX), [NO_EFFECT],
        "See activedefrag.";
    active_defrag_threshold_lower: u32 = 10, "active-defrag-threshold-lower", Kind::integer(0, 1000), [NO_EFFECT],
        "See activedefrag.";
    active_defrag_threshold_upper: u32 = 100, "active-defrag-threshold-upper", Kind::integer(0, 1000), [NO_EFFECT],
        "See activedefrag.";
    active_defrag_cycle_min: u32 = 1, "active-defrag-cycle-min", Kind::integer(1, 99), [NO_EFFECT],
        "See activedefrag.";
    active_defrag_cycle_max: u32 = 25, "active-defrag-cycle-max", Kind::integer(1, 99), [NO_EFFECT],
        "See activedefrag.";
    active_defrag_max_scan_fields: u64 = 1000, "active-defrag-max-scan-fields", Kind::integer(1, i64::MAX), [NO_EFFECT],
        "See activedefrag.";
} }
