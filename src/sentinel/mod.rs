//! Sentinel mode: watches primaries, finds their replicas and each other, agrees with other sentinels on who is down and who may
//! act, and fails over. It takes part in quorums together with stock Sentinel: same file, same messages, same election.
//!
//! ```text
//!   commands/ ──┐                      ┌── core      the machine: ticks and messages in, actions out
//!   wire ───────┼──► service ──► Core ─┼── registry, link, watch, info_text, report, hello   what is known
//!   timer ──────┘   (one lock)         ├── down, election, failover                          what is decided
//!      ▲               │               └── scripts, file                                     what is run and kept
//!      └── actions ────┘
//! ```
//! Everything below Core knows neither clock nor socket nor file; `simulation` plays it against crashes, partitions and delays.

pub mod action;
mod address;
pub mod commands;
mod core;
mod down;
mod election;
mod failover;
mod file;
mod hello;
mod info_text;
mod instance;
mod link;
mod names;
mod periods;
mod registry;
mod report;
mod scripts;
pub mod service;
#[cfg(test)]
mod simulation;
mod watch;
mod wire;
