//! The declarations, by group. Each file is one macro that adds its entries to those gathered so far and calls the next.

/// A macro `$name` that appends its entries and hands over to the next macro in the list.
macro_rules! group {
    ($d:tt $name:ident { $($entries:tt)* }) => {
        macro_rules! $name {
            ([$d next:ident $d($d rest:ident)*] $d($d gathered:tt)*) => {
                $d next! { [$d($d rest)*] $d($d gathered)* $($entries)* }
            };
        }
    };
}

#[macro_use]
mod network;
#[macro_use]
mod general;
#[macro_use]
mod memory;
#[macro_use]
mod data;
#[macro_use]
mod persistence;
#[macro_use]
mod replication;
#[macro_use]
mod cluster;
#[macro_use]
mod tls;
