//! Which processors the threads of a kind may run on.
//!
//! ```text
//!   assign(kind, "0-3")  ─► list of the kind ─► every thread of it that lives
//!   join(kind)           ─► the calling thread, until the membership is dropped
//! ```
//! A thread that belongs to no kind, or to one without a list, runs where the thread that started it may run.

use nix::errno::Errno;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::{Pid, gettid};
use parking_lot::Mutex;

/// Kinds of threads that have a list of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Worker,
    Background,
    Rewrite,
    Snapshot,
}

const KINDS: usize = 4;

#[derive(Default)]
struct Crew {
    /// Where its threads may run, if that is said.
    list: Option<CpuSet>,
    threads: Vec<Pid>,
}

struct Crews {
    crews: [Crew; KINDS],
    /// Where the process might run when the first list was assigned.
    all: Option<CpuSet>,
}

static CREWS: Mutex<Crews> =
    Mutex::new(Crews { crews: [const { Crew { list: None, threads: Vec::new() } }; KINDS], all: None });

/// Says where threads of a kind may run, those that live included; an empty text takes that back. Nothing has changed after
/// an error.
pub fn assign(kind: Kind, text: &str) -> Result<(), String> {
    let list = if text.trim().is_empty() { None } else { Some(parse(text)?) };
    let mut crews = CREWS.lock();
    let all = match crews.all {
        Some(all) => all,
        None => sched_getaffinity(Pid::this()).map_err(|error| error.desc().to_owned())?,
    };
    crews.all = Some(all);
    let crew = &mut crews.crews[kind as usize];
    if list.is_none() && crew.list.is_none() {
        return Ok(());
    }
    let wanted = list.unwrap_or(all);
    // The calling thread tries it out: the kernel knows best whether a list names a processor that we may use.
    let own = sched_getaffinity(gettid()).map_err(|error| error.desc().to_owned())?;
    sched_setaffinity(gettid(), &wanted).map_err(|_| "none of these processors can be used".to_owned())?;
    // It may run again where it did.
    let _ = sched_setaffinity(gettid(), &own);
    crew.list = list;
    // A thread that ended meanwhile has left the list, but for a moment.
    crew.threads.retain(|thread| sched_setaffinity(*thread, &wanted) != Err(Errno::ESRCH));
    Ok(())
}

/// A thread's belonging to a kind; to be held while it runs.
#[must_use]
pub struct Member {
    kind: Kind,
    thread: Pid,
}

/// Makes the calling thread one of a kind.
pub fn join(kind: Kind) -> Member {
    let member = Member { kind, thread: gettid() };
    let crew = &mut CREWS.lock().crews[kind as usize];
    crew.threads.push(member.thread);
    if let Some(list) = &crew.list {
        // Tried out when it was assigned; a processor that is gone since is no reason not to run.
        let _ = sched_setaffinity(member.thread, list);
    }
    member
}

impl Drop for Member {
    fn drop(&mut self) {
        CREWS.lock().crews[self.kind as usize].threads.retain(|thread| *thread != self.thread);
    }
}

/// `0-7:2,9`: numbers and ranges, each range with a step if it likes.
fn parse(text: &str) -> Result<CpuSet, String> {
    let malformed = || format!("'{text}' is not a list of processors such as 0-7:2 or 1,3");
    let mut set = CpuSet::new();
    for part in text.split(',') {
        let (range, step) = part.split_once(':').unwrap_or((part, "1"));
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| malformed());
        let (first, last, step) = (number(first)?, number(last)?, number(step)?);
        if first > last || step == 0 || last >= CpuSet::count() {
            return Err(malformed());
        }
        for processor in (first..=last).step_by(step) {
            set.set(processor).map_err(|_| malformed())?;
        }
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(set: &CpuSet) -> Vec<usize> {
        (0..CpuSet::count()).filter(|number| set.is_set(*number) == Ok(true)).collect()
    }

    fn own() -> Vec<usize> {
        numbers(&sched_getaffinity(gettid()).unwrap())
    }

    #[test]
    fn lists_are_read_as_taskset_reads_them() {
        let read = |text| parse(text).map(|set| numbers(&set));
        assert_eq!(read("3"), Ok(vec![3]));
        assert_eq!(read("0-7:2,9"), Ok(vec![0, 2, 4, 6, 9]));
        assert_eq!(read("1, 10-11"), Ok(vec![1, 10, 11]));
        for wrong in ["a", "1,", "3-1", "0-4:0", "-1", "100000", "1-2-3", "0-2:1:1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    /// The kinds are the process's own: one test looks at all that concerns them.
    #[test]
    fn threads_follow_the_list_of_their_kind() {
        let all = own();
        let last = *all.last().unwrap();
        assign(Kind::Rewrite, &last.to_string()).unwrap();
        assert_eq!(own(), all, "whoever assigns is not meant");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let member = join(Kind::Rewrite);
                let joined = own();
                assign(Kind::Rewrite, &all[0].to_string()).unwrap();
                let moved = own();
                assert!(assign(Kind::Rewrite, &(CpuSet::count() - 1).to_string()).is_err());
                let refused = own();
                assign(Kind::Rewrite, "").unwrap();
                drop(member);
                (joined, moved, refused, own())
            });
            assert_eq!(thread.join().unwrap(), (vec![last], vec![all[0]], vec![all[0]], all.clone()));
        });
        assert!(CREWS.lock().crews[Kind::Rewrite as usize].threads.is_empty());
    }
}
