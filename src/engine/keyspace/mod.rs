//! The keyspace: shards under striped locks, each with every database's part of the keys.
