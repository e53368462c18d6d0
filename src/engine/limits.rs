//! Thresholds at which a collection leaves its packed encoding. Set from the configuration, read by every structure.

/// Field names are the directives' (redis.conf, "advanced config"); the units are entries and bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Positive: entries per node. −1…−5: 4, 8, 16, 32, 64 KB per node.
    pub list_max_listpack_size: i64,
    /// Nodes at each end that stay uncompressed; 0 = never compress.
    pub list_compress_depth: u32,
    pub hash_max_listpack_entries: usize,
    pub hash_max_listpack_value: usize,
    pub set_max_intset_entries: usize,
    pub set_max_listpack_entries: usize,
    pub set_max_listpack_value: usize,
    pub zset_max_listpack_entries: usize,
    pub zset_max_listpack_value: usize,
    pub stream_node_max_bytes: usize,
    pub stream_node_max_entries: usize,
    pub hll_sparse_max_bytes: usize,
    /// DEBUG QUICKLIST-PACKED-THRESHOLD: a list element of this size gets a node of its own.
    pub packed_threshold: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            list_max_listpack_size: -2,
            list_compress_depth: 0,
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
            stream_node_max_bytes: 4096,
            stream_node_max_entries: 100,
            hll_sparse_max_bytes: 3000,
            packed_threshold: 1 << 30,
        }
    }
}
