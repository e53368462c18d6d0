//! Taking back what a debugged script has written (SCRIPT DEBUG YES).
//!
//! Redis debugs in a forked child, whose changes die with it. We do not fork: before a command of the script writes, its keys are
//! replaced by copies, and at the end the originals are put back. The script holds every shard meanwhile, so nobody sees the copies; neither
//! the append-only file nor replicas hear of them. Commands that reach beyond their keys are refused.

use crate::commands::error::CommandError;
use crate::commands::flags::Flags;
use crate::engine::keyspace::Locked;
use crate::engine::record::Record;
use crate::resp::Args;
use crate::server::plan;
use crate::server::table::{Entry, Handler};
use std::collections::HashMap;

const BEYOND: CommandError =
    CommandError::fixed("ERR What this command does cannot be taken back: debug it with SCRIPT DEBUG SYNC");

#[derive(Default)]
pub struct Undo {
    /// What was there before, by database and key.
    before: HashMap<(usize, Vec<u8>), Option<Record>>,
}

impl Undo {
    /// Keeps what a command may change. An error says that it must not run.
    pub fn prepare(
        &mut self,
        locked: &mut Locked,
        selected: usize,
        entry: &Entry,
        args: Args<'_>,
    ) -> Result<(), CommandError> {
        let flags = entry.spec.flags;
        if !entry.writes && !flags.has(Flags::MAY_REPLICATE) {
            return Ok(());
        }
        let everywhere = Flags::ALL_SHARDS.with(Flags::SHARD_BY_SHARD);
        if !matches!(entry.handler, Handler::Key(_)) || flags.has(everywhere) {
            return Err(BEYOND);
        }
        // The only ones that write in another database than the selected one.
        let is_between = matches!(entry.full_name.as_str(), "copy" | "move");
        let databases = if is_between { 0..locked.keyspace().databases() } else { selected..selected + 1 };
        let mut keys = Vec::new();
        plan::visit_keys(entry, args, &mut |index, _| keys.extend(args.get(index)));
        for db in databases {
            keys.iter().for_each(|key| self.keep(locked, db, key));
        }
        Ok(())
    }

    fn keep(&mut self, locked: &mut Locked, db: usize, key: &[u8]) {
        self.before.entry((db, key.to_vec())).or_insert_with(|| {
            let hash = Locked::hash(key);
            let original = locked.db_mut(hash, db).remove(hash, key)?;
            let copy = Record::with_value(key, original.copy_value(), original.expiry());
            copy.set_access(original.access());
            locked.db_mut(hash, db).insert(hash, copy);
            Some(original)
        });
    }

    /// Puts everything back.
    pub fn undo(self, locked: &mut Locked) {
        for ((db, key), original) in self.before {
            let hash = Locked::hash(&key);
            let db = locked.db_mut(hash, db);
            match original {
                Some(original) => drop(db.insert(hash, original)),
                None => drop(db.remove(hash, &key)),
            }
        }
    }
}
