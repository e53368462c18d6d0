//! Encodings of values and keyspace events.

group! { $ data_params {
    hash_max_listpack_entries: usize = 512, "hash-max-listpack-entries" | "hash-max-ziplist-entries", Kind::integer(0, i64::MAX), [],
        "Fields up to which a hash stays packed.";
    hash_max_listpack_value: usize = 64, "hash-max-listpack-value" | "hash-max-ziplist-value", Kind::memory(0, LONG_MAX), [],
        "Length of a field or value up to which a hash stays packed.";
    list_max_listpack_size: i64 = -2, "list-max-listpack-size" | "list-max-ziplist-size", Kind::integer(-INT_MAX - 1, INT_MAX), [],
        "Size of a node of a list: elements if positive; -1 to -5 for 4, 8, 16, 32, 64 KB.";
    list_compress_depth: u32 = 0, "list-compress-depth", Kind::integer(0, INT_MAX), [],
        "Nodes at each end of a list that stay uncompressed; 0 compresses none.";
    set_max_intset_entries: usize = 512, "set-max-intset-entries", Kind::integer(0, i64::MAX), [],
        "Members up to which a set of integers stays packed.";
    set_max_listpack_entries: usize = 128, "set-max-listpack-entries", Kind::integer(0, i64::MAX), [],
        "Members up to which a set of strings stays packed.";
    set_max_listpack_value: usize = 64, "set-max-listpack-value", Kind::memory(0, LONG_MAX), [],
        "Length of a member up to which a set of strings stays packed.";
    zset_max_listpack_entries: usize = 128, "zset-max-listpack-entries" | "zset-max-ziplist-entries", Kind::integer(0, i64::MAX), [],
        "Members up to which a sorted set stays packed.";
    zset_max_listpack_value: usize = 64, "zset-max-listpack-value" | "zset-max-ziplist-value", Kind::memory(0, LONG_MAX), [],
        "Length of a member up to which a sorted set stays packed.";
    hll_sparse_max_bytes: usize = 3000, "hll-sparse-max-bytes", Kind::memory(0, LONG_MAX), [],
        "Bytes up to which a HyperLogLog keeps its sparse form.";
    stream_node_max_bytes: usize = 4096, "stream-node-max-bytes", Kind::memory(0, LONG_MAX), [],
        "Bytes of a node of a stream; 0 for no limit.";
    stream_node_max_entries: usize = 100, "stream-node-max-entries", Kind::integer(0, i64::MAX), [],
        "Entries of a node of a stream; 0 for no limit.";
    encoding_names: EncodingNames = EncodingNames::Redis70, "encoding-names", EncodingNames::KIND, [],
        "Names of OBJECT ENCODING: redis-7.0 calls every list quicklist and every set without numbers hashtable, as 7.0 does; redis-7.2 names the packed forms, too.";
    notify_keyspace_events: EventClasses = EventClasses::NONE, "notify-keyspace-events", Kind::Special("letters of KEg$lshzxetdnmA"), [],
        "Events that are published: K and/or E, and classes; A is g$lshzxetd.";
} }
