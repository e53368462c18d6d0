//! Level 5: files. RDB, AOF, configuration.

pub mod config_file;
