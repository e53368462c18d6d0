//! INFO cpu.

use super::{Field, Figure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

pub const FIELDS: &[Field] = &[
    Field::new("used_cpu_sys", |_| used(UsageWho::RUSAGE_SELF, Part::System)),
    Field::new("used_cpu_user", |_| used(UsageWho::RUSAGE_SELF, Part::User)),
    Field::new("used_cpu_sys_children", |_| used(UsageWho::RUSAGE_CHILDREN, Part::System)),
    Field::new("used_cpu_user_children", |_| used(UsageWho::RUSAGE_CHILDREN, Part::User)),
    // No thread is the main one here: this is the worker that answers.
    Field::new("used_cpu_sys_main_thread", |_| used(UsageWho::RUSAGE_THREAD, Part::System)),
    Field::new("used_cpu_user_main_thread", |_| used(UsageWho::RUSAGE_THREAD, Part::User)),
];

#[derive(Clone, Copy)]
enum Part {
    System,
    User,
}

fn used(who: UsageWho, part: Part) -> Figure {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let usage = getrusage(who).map(|usage| match part {
        Part::System => usage.system_time(),
        Part::User => usage.user_time(),
    });
    Figure::Seconds(usage.map_or(0.0, seconds))
}
