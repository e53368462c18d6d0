//! Pops that try several keys and take from the first that has anything: the part that lists and sorted sets share.
//!
//! ```text
//!   key [key ...] timeout                                     BLPOP BRPOP BZPOPMIN BZPOPMAX
//!   [timeout] numkeys key [key ...] WHERE [COUNT count]       LMPOP BLMPOP ZMPOP BZMPOP
//! ```

use super::args;
use super::context::{Block, KeyContext, KeyFlow, OnTimeout};
use super::error::{CommandError, CommandResult};
use crate::resp::Args;
use std::ops::Range;

/// Nothing there: the wish to wait for `keys`, or, where waiting is not allowed, what `denied` answers.
pub fn wait_for<'a>(
    ctx: &mut KeyContext<'_>,
    keys: impl IntoIterator<Item = &'a [u8]>,
    timeout_ms: Option<u64>,
    denied: OnTimeout,
) -> KeyFlow {
    if ctx.deny_blocking {
        match denied {
            OnTimeout::Null => ctx.reply.null(),
            OnTimeout::NullArray => ctx.reply.null_array(),
        }
        return KeyFlow::Done;
    }
    KeyFlow::Block(Block {
        keys: keys.into_iter().map(Box::from).collect(),
        timeout_ms,
        // Even commands whose answer is no array, as BLMOVE, get a null array when their time is up.
        on_timeout: OnTimeout::NullArray,
        wakes_on_delete: false,
        look_again_ms: None,
        args: None,
    })
}

/// `key [key ...] timeout`: `take` answers and says true at the first key that has anything.
pub fn one_or_wait(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    take: impl Fn(&mut KeyContext<'_>, &[u8]) -> CommandResult<bool>,
) -> Result<KeyFlow, CommandError> {
    let last = args.len() - 1;
    let timeout_ms = args::timeout_ms(&args[last])?;
    let keys = || args.iter().skip(1).take(last - 1);
    for key in keys() {
        if take(ctx, key)? {
            return Ok(KeyFlow::Done);
        }
    }
    Ok(wait_for(ctx, keys(), timeout_ms, OnTimeout::NullArray))
}

/// `numkeys key [key ...] WHERE [COUNT count]`.
pub struct ManyPop<W> {
    /// Indexes of the keys.
    keys: Range<usize>,
    /// The end of the list, the side of the order.
    pub from: W,
    pub count: usize,
}

impl<W: Copy> ManyPop<W> {
    fn parse(
        args: Args<'_>,
        numkeys_at: usize,
        side: impl Fn(Args<'_>, usize) -> CommandResult<W>,
    ) -> CommandResult<Self> {
        let (keys, index) = args::numkeys(args, numkeys_at)?;
        Ok(ManyPop { keys, from: side(args, index)?, count: args::pop_count(args, index + 1)? })
    }

    fn keys<'a>(&self, args: Args<'a>) -> impl Iterator<Item = &'a [u8]> {
        args.iter().skip(self.keys.start).take(self.keys.len())
    }

    fn run(
        &self,
        ctx: &mut KeyContext<'_>,
        args: Args<'_>,
        take: impl Fn(&mut KeyContext<'_>, &[u8], W, usize) -> CommandResult<bool>,
    ) -> CommandResult<bool> {
        for key in self.keys(args) {
            if take(ctx, key, self.from, self.count)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// LMPOP, ZMPOP.
pub fn many<W: Copy>(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    side: impl Fn(Args<'_>, usize) -> CommandResult<W>,
    take: impl Fn(&mut KeyContext<'_>, &[u8], W, usize) -> CommandResult<bool>,
) -> Result<KeyFlow, CommandError> {
    if !ManyPop::parse(args, 1, side)?.run(ctx, args, take)? {
        ctx.reply.null_array();
    }
    Ok(KeyFlow::Done)
}

/// BLMPOP, BZMPOP.
pub fn many_or_wait<W: Copy>(
    ctx: &mut KeyContext<'_>,
    args: Args<'_>,
    side: impl Fn(Args<'_>, usize) -> CommandResult<W>,
    take: impl Fn(&mut KeyContext<'_>, &[u8], W, usize) -> CommandResult<bool>,
) -> Result<KeyFlow, CommandError> {
    let wish = ManyPop::parse(args, 2, side)?;
    let timeout_ms = args::timeout_ms(&args[1])?;
    if wish.run(ctx, args, take)? {
        return Ok(KeyFlow::Done);
    }
    Ok(wait_for(ctx, wish.keys(args), timeout_ms, OnTimeout::NullArray))
}
