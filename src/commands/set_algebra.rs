//! Intersection, union and difference of sets, shown, counted or stored.
//!
//! Nothing is copied to answer a client: each operation is a walk over some sets that asks the others, and members go
//! straight into the reply. A walk ends early where it may (LIMIT, an empty set).

use super::args;
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::element::reply_element;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use crate::engine::limits::Limits;
use crate::engine::listpack::Element;
use crate::engine::set::Set;
use crate::engine::value::{Value, ValueRef};
use crate::resp::Args;
use std::collections::HashSet;
use std::ops::ControlFlow;

pub const COMMANDS: &[KeyCommand] = &[
    shown("sinter", sinter)
        .summary("Returns the members that several sets have in common.")
        .complexity("O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets."),
    shown("sunion", sunion)
        .summary("Returns the members of several sets, each once.")
        .complexity("O(N) where N is the total number of elements in all given sets."),
    shown("sdiff", sdiff)
        .summary("Returns the members of the first set that the others do not have.")
        .complexity("O(N) where N is the total number of elements in all given sets."),
    stored("sinterstore", sinterstore)
        .keys(&[KeySpec::at(1).rw().update(), KeySpec::range(2, -1, 1).ro().access()])
        .summary("Stores the members that several sets have in common.")
        .complexity("O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets."),
    stored("sunionstore", sunionstore)
        .keys(&[KeySpec::at(1).ow().update(), KeySpec::range(2, -1, 1).ro().access()])
        .summary("Stores the members of several sets.")
        .complexity("O(N) where N is the total number of elements in all given sets."),
    stored("sdiffstore", sdiffstore)
        .keys(&[KeySpec::at(1).ow().update(), KeySpec::range(2, -1, 1).ro().access()])
        .summary("Stores the members of the first set that the others do not have.")
        .complexity("O(N) where N is the total number of elements in all given sets."),
    counted("sintercard", sintercard)
        .since("7.0.0")
        .syntax("numkeys key [key ...] [LIMIT limit]")
        .summary("Counts the members that several sets have in common.")
        .complexity("O(N*M) worst case where N is the cardinality of the smallest set and M is the number of sets."),
    counted("sunioncard", sunioncard)
        .since("8.10.0")
        .syntax("numkeys key [key ...] [APPROX] [LIMIT limit]")
        .summary("Counts the members of several sets, each once.")
        .complexity("O(N) where N is the total number of elements in all given sets."),
    counted("sdiffcard", sdiffcard)
        .since("8.10.0")
        .syntax("numkeys key [key ...] [LIMIT limit]")
        .summary("Counts the members of the first set that the others do not have.")
        .complexity("O(N) where N is the total number of elements in all given sets."),
];

type Handler = super::spec::KeyHandler;

const ALL_KEYS: &[KeySpec] = &[KeySpec::range(1, -1, 1).ro().access()];
const COUNTED_KEYS: &[KeySpec] = &[KeySpec::counted(1).ro().access()];

const fn shown(name: &'static str, handler: Handler) -> KeyCommand {
    KeyCommand::new(name, -2, handler)
        .group(Group::Set)
        .readonly()
        .tips(&["nondeterministic_output_order"])
        .keys(ALL_KEYS)
        .syntax("key [key ...]")
}

const fn stored(name: &'static str, handler: Handler) -> KeyCommand {
    KeyCommand::new(name, -3, handler).group(Group::Set).write().denyoom().syntax("destination key [key ...]")
}

const fn counted(name: &'static str, handler: Handler) -> KeyCommand {
    KeyCommand::new(name, -3, handler).group(Group::Set).readonly().keys(COUNTED_KEYS)
}

const NUMKEYS_TOO_SMALL: CommandError = CommandError::fixed("ERR numkeys should be greater than 0");
const NUMKEYS_TOO_LARGE: CommandError = CommandError::fixed("ERR Number of keys can't be greater than number of args");
const LIMIT_NEGATIVE: CommandError = CommandError::fixed("ERR LIMIT can't be negative");

/// With more sets than this, asking each of them for each member costs more than one table of what was seen.
const ASK_AT_MOST: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Intersection,
    Union,
    Difference,
}

impl Operation {
    /// Visits each member of the result once, until `visit` breaks.
    fn walk<'a>(self, sets: &[Option<&'a Set>], visit: &mut dyn FnMut(Element<'a>) -> ControlFlow<()>) {
        // Whether the walk was broken off is of no interest: the visitor knows.
        _ = match self {
            Operation::Intersection => intersect(sets, visit),
            Operation::Union => unite(sets, visit),
            Operation::Difference => subtract(sets, visit),
        };
    }

    fn stored_event(self) -> &'static str {
        match self {
            Operation::Intersection => "sinterstore",
            Operation::Union => "sunionstore",
            Operation::Difference => "sdiffstore",
        }
    }

    /// The result as a set of its own.
    fn collect(self, sets: &[Option<&Set>], limits: &Limits) -> Set {
        let mut result = Set::new();
        let mut rest = sets.to_vec();
        if self == Operation::Union {
            // The largest set is copied as it is; only the others are added member by member.
            rest.sort_by_key(|set| std::cmp::Reverse(set.map_or(0, Set::len)));
            if let Some(Some(largest)) = rest.first() {
                result = Set::clone(largest);
            }
            for member in rest.iter().skip(1).copied().flatten().flat_map(Set::iter) {
                result.add_element(member, limits);
            }
            return result;
        }
        self.walk(sets, &mut |member| {
            result.add_element(member, limits);
            ControlFlow::Continue(())
        });
        result
    }
}

type Visit<'a, 'v> = dyn FnMut(Element<'a>) -> ControlFlow<()> + 'v;

/// Walks the smallest set and asks the others, the next smallest first: it is the likeliest to lack the member.
fn intersect<'a>(sets: &[Option<&'a Set>], visit: &mut Visit<'a, '_>) -> ControlFlow<()> {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else { return ControlFlow::Continue(()) };
    sets.sort_by_key(|set| set.len());
    sets.dedup_by(|a, b| std::ptr::eq(*a, *b));
    let Some((smallest, others)) = sets.split_first() else { return ControlFlow::Continue(()) };
    smallest.iter().filter(|member| others.iter().all(|set| set.contains_element(*member))).try_for_each(visit)
}

/// Walks every set, the largest first, and asks those before it whether the member was there already.
fn unite<'a>(sets: &[Option<&'a Set>], visit: &mut Visit<'a, '_>) -> ControlFlow<()> {
    let mut sets: Vec<&Set> = sets.iter().copied().flatten().collect();
    sets.sort_by_key(|set| std::cmp::Reverse(set.len()));
    if sets.len() > ASK_AT_MOST {
        let mut seen = Seen::default();
        return sets.iter().flat_map(|set| set.iter()).filter(|member| seen.insert(*member)).try_for_each(visit);
    }
    for (index, set) in sets.iter().enumerate() {
        let earlier = &sets[..index];
        if earlier.iter().any(|other| std::ptr::eq(*other, *set)) {
            continue;
        }
        set.iter()
            .filter(|member| !earlier.iter().any(|other| other.contains_element(*member)))
            .try_for_each(&mut *visit)?;
    }
    ControlFlow::Continue(())
}

/// Walks the first set and asks the others, the largest first: it is the likeliest to have the member.
fn subtract<'a>(sets: &[Option<&'a Set>], visit: &mut Visit<'a, '_>) -> ControlFlow<()> {
    let Some((Some(first), others)) = sets.split_first() else { return ControlFlow::Continue(()) };
    let mut others: Vec<&Set> = others.iter().copied().flatten().collect();
    if others.iter().any(|set| std::ptr::eq(*set, *first)) {
        return ControlFlow::Continue(());
    }
    let others_len: usize = others.iter().map(|set| set.len()).sum();
    if others.len() > ASK_AT_MOST && first.len().saturating_mul(others.len()) > others_len {
        let mut seen = Seen::default();
        others.iter().flat_map(|set| set.iter()).for_each(|member| _ = seen.insert(member));
        return first.iter().filter(|member| !seen.contains(*member)).try_for_each(visit);
    }
    others.sort_by_key(|set| std::cmp::Reverse(set.len()));
    first.iter().filter(|member| !others.iter().any(|set| set.contains_element(*member))).try_for_each(visit)
}

/// Members seen, on loan from their sets.
#[derive(Default)]
struct Seen<'a> {
    integers: HashSet<i64, ahash::RandomState>,
    texts: HashSet<&'a [u8], ahash::RandomState>,
}

impl<'a> Seen<'a> {
    /// False if it was seen before. A number is the same member whether a set keeps it as integer or as text.
    fn insert(&mut self, member: Element<'a>) -> bool {
        match (member.as_i64(), member) {
            (Some(value), _) => self.integers.insert(value),
            (None, Element::Bytes(text)) => self.texts.insert(text),
            (None, Element::Int(value)) => self.integers.insert(value),
        }
    }

    fn contains(&self, member: Element<'_>) -> bool {
        match (member.as_i64(), member) {
            (Some(value), _) | (None, Element::Int(value)) => self.integers.contains(&value),
            (None, Element::Bytes(text)) => self.texts.contains(text),
        }
    }
}

/// The sets at some keys, all on loan at once; an absent one is `None`.
fn sets_at<'k>(keys: &'k mut Keys<'_>, names: Args<'_>) -> CommandResult<Vec<Option<&'k Set>>> {
    // The first round expires, counts and checks types, which changes the keyspace; the second only looks.
    let present = names.iter().map(|key| Ok(keys.read_set(key)?.is_some())).collect::<CommandResult<Vec<bool>>>()?;
    let keys = &*keys;
    let sets = names.iter().zip(present).map(|(key, present)| {
        let hash = keys.hash(key);
        let record = keys.locked.db(hash, keys.db)?.find(hash, key).filter(|_| present)?;
        match record.value() {
            ValueRef::Set(set) => Some(set),
            ValueRef::String(_) | ValueRef::List(_) | ValueRef::ZSet(_) | ValueRef::Hash(_) | ValueRef::Stream(_) => {
                None
            }
        }
    });
    Ok(sets.collect())
}

fn sinter(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    show(ctx, args, Operation::Intersection)
}

fn sunion(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    show(ctx, args, Operation::Union)
}

fn sdiff(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    show(ctx, args, Operation::Difference)
}

fn show(ctx: &mut KeyContext<'_>, args: Args<'_>, operation: Operation) -> Result<KeyFlow, CommandError> {
    let sets = sets_at(&mut ctx.keys, args.from(1))?;
    let (reply, mut len) = (&mut *ctx.reply, 0);
    let mark = reply.begin();
    operation.walk(&sets, &mut |member| {
        reply_element(reply, member);
        len += 1;
        ControlFlow::Continue(())
    });
    reply.end_set(mark, len);
    Ok(KeyFlow::Done)
}

fn sinterstore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    store(ctx, args, Operation::Intersection)
}

fn sunionstore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    store(ctx, args, Operation::Union)
}

fn sdiffstore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    store(ctx, args, Operation::Difference)
}

fn store(ctx: &mut KeyContext<'_>, args: Args<'_>, operation: Operation) -> Result<KeyFlow, CommandError> {
    let target = &args[1];
    let limits = &ctx.keys.settings.limits;
    let result = operation.collect(&sets_at(&mut ctx.keys, args.from(2))?, limits);
    let len = result.len();
    if len > 0 {
        ctx.keys.insert(target, Value::Set(result), None);
        ctx.keys.touch(target, EventClasses::SET, operation.stored_event());
    } else if ctx.keys.delete(target) {
        ctx.keys.touch(target, EventClasses::GENERIC, "del");
    }
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

fn sintercard(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    count(ctx, args, Operation::Intersection)
}

fn sunioncard(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    count(ctx, args, Operation::Union)
}

fn sdiffcard(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    count(ctx, args, Operation::Difference)
}

fn count(ctx: &mut KeyContext<'_>, args: Args<'_>, operation: Operation) -> Result<KeyFlow, CommandError> {
    let numkeys = args::integer_in(&args[1], 1..=i64::MAX, NUMKEYS_TOO_SMALL)?;
    let numkeys = usize::try_from(numkeys).ok().filter(|n| *n <= args.len() - 2).ok_or(NUMKEYS_TOO_LARGE)?;
    let limit = limit_of(args.from(2 + numkeys), operation)?;
    let names = args.first(2 + numkeys).from(2);
    let sets = sets_at(&mut ctx.keys, names)?;
    let mut len = 0;
    operation.walk(&sets, &mut |_| {
        len += 1;
        if len == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    ctx.reply.count(len);
    Ok(KeyFlow::Done)
}

/// The options behind the keys; 0 = no limit. APPROX permits an estimate: the exact count, which needs no memory here, is one.
fn limit_of(options: Args<'_>, operation: Operation) -> CommandResult<usize> {
    let (mut limit, mut index) = (0, 0);
    while index < options.len() {
        if options.is(index, "LIMIT") && index + 1 < options.len() {
            limit = args::integer_in(&options[index + 1], 0..=i64::MAX, LIMIT_NEGATIVE)? as usize;
            index += 2;
        } else if options.is(index, "APPROX") && operation == Operation::Union {
            index += 1;
        } else {
            return Err(error::SYNTAX);
        }
    }
    Ok(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set_of(members: &BTreeSet<String>, limits: &Limits) -> Set {
        let mut set = Set::new();
        members.iter().for_each(|member| _ = set.add(member.as_bytes(), limits));
        set
    }

    fn member() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[0-9]{1,2}", 2 => "[a-d]{1,2}", 1 => "-?[1-9][0-9]{9}"]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Sets of all three encodings, some absent, some named twice, few and many of them.
        #[test]
        fn results_agree_with_ordered_sets(
            members in prop::collection::vec(prop::option::weighted(0.9, prop::collection::btree_set(member(), 0..40)), 1..14),
            twice in prop::option::of(any::<prop::sample::Index>()),
            limit in 1..30usize,
        ) {
            let limits = Limits { set_max_intset_entries: 12, set_max_listpack_entries: 20, ..Limits::default() };
            let held: Vec<Option<Set>> =
                members.iter().map(|set| set.as_ref().filter(|set| !set.is_empty()).map(|set| set_of(set, &limits))).collect();
            let mut sets: Vec<Option<&Set>> = held.iter().map(Option::as_ref).collect();
            let mut models: Vec<BTreeSet<String>> = members.iter().map(|set| set.clone().unwrap_or_default()).collect();
            if let Some(index) = twice {
                sets.push(*index.get(&sets));
                models.push(index.get(&models).clone());
            }
            let (first, others) = models.split_first().expect("at least one");
            for (operation, expected) in [
                (Operation::Intersection, others.iter().fold(first.clone(), |a, b| &a & b)),
                (Operation::Union, others.iter().fold(first.clone(), |a, b| &a | b)),
                (Operation::Difference, others.iter().fold(first.clone(), |a, b| &a - b)),
            ] {
                let mut shown = Vec::new();
                operation.walk(&sets, &mut |member| {
                    shown.push(String::from_utf8(member.to_vec()).expect("text"));
                    ControlFlow::Continue(())
                });
                let distinct: BTreeSet<String> = shown.iter().cloned().collect();
                prop_assert_eq!((distinct.len(), &distinct), (shown.len(), &expected), "{:?}", operation);
                let stored = operation.collect(&sets, &limits);
                let stored: BTreeSet<String> =
                    stored.iter().map(|member| String::from_utf8(member.to_vec()).expect("text")).collect();
                prop_assert_eq!(&stored, &expected, "{:?}", operation);
                let mut counted = 0;
                operation.walk(&sets, &mut |_| {
                    counted += 1;
                    if counted == limit { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
                });
                prop_assert_eq!(counted, expected.len().min(limit));
            }
        }
    }
}
