//! Moving keys between servers: MIGRATE. The cluster itself is not built yet.

pub mod migrate;
mod target;
