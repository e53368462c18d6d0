//! The packed forms before listpacks, read only: both become listpacks.

pub mod ziplist;
pub mod zipmap;
