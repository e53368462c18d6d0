//! SORT and SORT_RO: the elements of a list, set or sorted set, in an order that other keys may give, shown as other keys
//! tell, or stored as a list.
//!
//! ```text
//!   collect ─► weigh (BY pattern, or the element itself) ─► order, cut to LIMIT ─► show or store (GET patterns)
//! ```
//! Patterns name keys that no specification can know, so a command with one runs with every shard locked.

use super::args;
use super::context::{KeyContext, KeyFlow, Keys};
use super::effects::EventClasses;
use super::error::{self, CommandError, CommandResult};
use super::keyspec::{KeyFlags, KeySpec};
use super::spec::{Group, KeyCommand};
use crate::engine::limits::Limits;
use crate::engine::list::List;
use crate::engine::listpack::Element;
use crate::engine::quicklist::End;
use crate::engine::value::{StringRef, Value, ValueRef};
use crate::resp::Args;
use std::cmp::Ordering;

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("sort", -2, sort)
        .group(Group::Generic)
        .write()
        .denyoom()
        .categories(CATEGORIES)
        .keys(&[
            KeySpec::at(1).ro().access(),
            BY_PATTERN.notes(PATTERN_NOTES),
            STORED.notes(
                "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear anywhere in the argument array",
            ),
        ])
        .key_finder(find_keys)
        // The finder names the sorted key first, and then what is stored.
        .flags_by_use(|_, index, sorted| if index == 1 { sorted } else { KeyFlags::OVERWRITES })
        .every_shard_if(has_patterns)
        .syntax("key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA] [STORE destination]")
        .summary("Sorts the elements of a list, set or sorted set, and shows or stores them.")
        .complexity(COMPLEXITY),
    KeyCommand::new("sort_ro", -2, sort_ro)
        .since("7.0.0")
        .group(Group::Generic)
        .readonly()
        .categories(CATEGORIES)
        .keys(&[KeySpec::at(1).ro().access(), BY_PATTERN.notes(PATTERN_NOTES)])
        .key_finder(|_| vec![1])
        .every_shard_if(has_patterns)
        .syntax("key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC | DESC] [ALPHA]")
        .summary("Sorts the elements of a list, set or sorted set, and shows them.")
        .complexity(COMPLEXITY),
];

const CATEGORIES: &[&str] = &["set", "sortedset", "list", "dangerous", "-keyspace"];
/// Not marked as incomplete, because `find_keys` and locking every shard cover what the specification leaves out.
const BY_PATTERN: KeySpec = KeySpec { flags: KeyFlags::RO, ..KeySpec::unknown() }.access();
const STORED: KeySpec = KeySpec { flags: KeyFlags::OW, ..KeySpec::unknown() }.update();
const PATTERN_NOTES: &str = "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from the content of the key we sort";
const COMPLEXITY: &str = "O(N+M*log(M)) where N is the number of elements in the list or set to sort, and M the number of returned elements. When the elements are not sorted, complexity is O(N).";
/// The keys that a pattern names may lie on other nodes.
const BY_IN_CLUSTER: CommandError = CommandError::fixed("ERR BY option of SORT denied in Cluster mode.");
const GET_IN_CLUSTER: CommandError = CommandError::fixed("ERR GET option of SORT denied in Cluster mode.");
const BY_WITHOUT_RIGHTS: CommandError =
    CommandError::fixed("ERR BY option of SORT denied due to insufficient ACL permissions.");
const GET_WITHOUT_RIGHTS: CommandError =
    CommandError::fixed("ERR GET option of SORT denied due to insufficient ACL permissions.");
const NOT_A_SCORE: CommandError = CommandError::fixed("ERR One or more scores can't be converted into double");

/// The sorted key, and the last STORE's. Words that are arguments of other options do not count.
fn find_keys(args: Args<'_>) -> Vec<usize> {
    let (mut store, mut index) = (None, 2);
    while index < args.len() {
        if args.is(index, "LIMIT") {
            index += 2;
        } else if args.is(index, "GET") || args.is(index, "BY") {
            index += 1;
        } else if args.is(index, "STORE") && index + 1 < args.len() {
            store = Some(index + 1);
        }
        index += 1;
    }
    [1].into_iter().chain(store).collect()
}

/// Whether other keys will be asked for.
fn has_patterns(args: Args<'_>) -> bool {
    (2..args.len()).any(|index| {
        (args.is(index, "BY") || args.is(index, "GET"))
            && args.get(index + 1).is_some_and(|pattern| pattern.contains(&b'*'))
    })
}

/// Where a key's value is found by an element: `prefix*suffix`, or a field of a hash behind `->`.
#[derive(Clone, Copy)]
enum Pattern<'a> {
    /// `#`: the element itself.
    Element,
    /// Without `*` there is nothing to look up.
    Nothing,
    Key {
        prefix: &'a [u8],
        suffix: &'a [u8],
        field: Option<&'a [u8]>,
    },
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a [u8]) -> Self {
        if text == b"#" {
            return Pattern::Element;
        }
        let Some(star) = text.iter().position(|byte| *byte == b'*') else { return Pattern::Nothing };
        let (prefix, rest) = (&text[..star], &text[star + 1..]);
        let arrow = rest.windows(2).position(|pair| pair == b"->").filter(|arrow| arrow + 2 < rest.len());
        match arrow {
            Some(arrow) => Pattern::Key { prefix, suffix: &rest[..arrow], field: Some(&rest[arrow + 2..]) },
            None => Pattern::Key { prefix, suffix: rest, field: None },
        }
    }

    /// Lends the value that the pattern names for an element. `name` is scratch for the key.
    fn with_value<R>(
        self,
        keys: &mut Keys<'_>,
        name: &mut Vec<u8>,
        element: &[u8],
        visit: impl FnOnce(Option<Element<'_>>) -> R,
    ) -> R {
        let (prefix, suffix, field) = match self {
            Pattern::Element => return visit(Some(Element::Bytes(element))),
            Pattern::Nothing => return visit(None),
            Pattern::Key { prefix, suffix, field } => (prefix, suffix, field),
        };
        name.clear();
        name.extend_from_slice(prefix);
        name.extend_from_slice(element);
        name.extend_from_slice(suffix);
        let now = keys.field_now();
        let value = match (keys.read(name).map(|record| record.value()), field) {
            (Some(ValueRef::String(StringRef::Int(value))), None) => Some(Element::Int(value)),
            (Some(ValueRef::String(StringRef::Bytes(text))), None) => Some(Element::Bytes(text)),
            (Some(ValueRef::Hash(hash)), Some(field)) => hash.get(field, now),
            _ => None,
        };
        visit(value)
    }
}

struct Options<'a> {
    by: Option<Pattern<'a>>,
    gets: Vec<Pattern<'a>>,
    alpha: bool,
    descending: bool,
    offset: i64,
    /// Negative: all.
    count: i64,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: Args<'a>, may_store: bool, in_cluster: bool, reads_any_key: bool) -> CommandResult<Self> {
        let mut options =
            Options { by: None, gets: Vec::new(), alpha: false, descending: false, offset: 0, count: -1, store: None };
        let mut index = 2;
        while index < args.len() {
            let value = args.get(index + 1);
            if args.is(index, "ASC") {
                options.descending = false;
            } else if args.is(index, "DESC") {
                options.descending = true;
            } else if args.is(index, "ALPHA") {
                options.alpha = true;
            } else if args.is(index, "LIMIT") && index + 2 < args.len() {
                options.offset = args::integer(&args[index + 1])?;
                options.count = args::integer(&args[index + 2])?;
                index += 2;
            } else if let Some(value) = value.filter(|_| args.is(index, "STORE") && may_store) {
                options.store = Some(value);
                index += 1;
            } else if let Some(value) = value.filter(|_| args.is(index, "BY")) {
                // `#` is a constant here, so it means the order that is there.
                let pattern = Pattern::parse(value);
                if in_cluster && matches!(pattern, Pattern::Key { .. }) {
                    return Err(BY_IN_CLUSTER);
                }
                if !reads_any_key && value.contains(&b'*') {
                    return Err(BY_WITHOUT_RIGHTS);
                }
                options.by = Some(if matches!(pattern, Pattern::Element) { Pattern::Nothing } else { pattern });
                index += 1;
            } else if let Some(value) = value.filter(|_| args.is(index, "GET")) {
                if in_cluster {
                    return Err(GET_IN_CLUSTER);
                }
                if !reads_any_key {
                    return Err(GET_WITHOUT_RIGHTS);
                }
                options.gets.push(Pattern::parse(value));
                index += 1;
            } else {
                return Err(error::SYNTAX);
            }
            index += 1;
        }
        Ok(options)
    }

    /// LIMIT as a range of `len` elements.
    fn range(&self, len: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(self.offset).unwrap_or(0).min(len);
        let count = usize::try_from(self.count).unwrap_or(usize::MAX);
        start..start.saturating_add(count).min(len)
    }
}

/// Elements side by side in one buffer, with what they are ordered by.
#[derive(Default)]
struct Items {
    bytes: Vec<u8>,
    items: Vec<Item>,
    /// They come from a list: what BY ... ALPHA finds equal stays in its order. Sets have none that replicas would share.
    are_listed: bool,
}

struct Item {
    element: std::ops::Range<usize>,
    score: f64,
    /// The text to compare by, if BY found one.
    by: Option<std::ops::Range<usize>>,
}

impl Items {
    fn push(&mut self, element: Element<'_>) {
        let element = self.keep(element);
        self.items.push(Item { element, score: 0.0, by: None });
    }

    fn keep(&mut self, text: Element<'_>) -> std::ops::Range<usize> {
        let start = self.bytes.len();
        text.with_bytes(|text| self.bytes.extend_from_slice(text));
        start..self.bytes.len()
    }

    fn weigh(&mut self, keys: &mut Keys<'_>, by: Option<Pattern<'_>>, alpha: bool) -> CommandResult<()> {
        let mut name = Vec::new();
        let mut element = Vec::new();
        for index in 0..self.items.len() {
            element.clear();
            element.extend_from_slice(&self.bytes[self.items[index].element.clone()]);
            match by {
                None if alpha => self.items[index].by = Some(self.items[index].element.clone()),
                None => self.items[index].score = score(&element).ok_or(NOT_A_SCORE)?,
                Some(pattern) => pattern.with_value(keys, &mut name, &element, |value| {
                    match value {
                        Some(value) if alpha => self.items[index].by = Some(self.keep(value)),
                        Some(value) => self.items[index].score = value.with_bytes(score).ok_or(NOT_A_SCORE)?,
                        None => {}
                    }
                    Ok::<(), CommandError>(())
                })?,
            }
        }
        Ok(())
    }

    /// Puts the elements of a range in order; the others may stand anywhere.
    fn order(&mut self, options: &Options<'_>, range: &std::ops::Range<usize>) {
        let (bytes, are_listed) = (&self.bytes, self.are_listed);
        let text = |range: &std::ops::Range<usize>| &bytes[range.clone()];
        let by_element = |a: &Item, b: &Item| text(&a.element).cmp(text(&b.element));
        // Equals are ordered, too, so that replicas agree.
        let compare = |a: &Item, b: &Item| -> Ordering {
            let ascending = if options.alpha {
                a.by.as_ref().map(text).cmp(&b.by.as_ref().map(text))
            } else {
                a.score.total_cmp(&b.score).then_with(|| by_element(a, b))
            };
            let order = if options.descending { ascending.reverse() } else { ascending };
            order.then_with(|| if are_listed { a.element.start.cmp(&b.element.start) } else { by_element(a, b) })
        };
        let end = range.end;
        if end < self.items.len() {
            self.items.select_nth_unstable_by(end, compare);
        }
        self.items[..end].sort_unstable_by(compare);
    }

    fn element(&self, item: &Item) -> &[u8] {
        &self.bytes[item.element.clone()]
    }
}

/// The number that a text spells to the end, as C's `strtod` reads it. An empty one is 0.
fn score(text: &[u8]) -> Option<f64> {
    let text = std::str::from_utf8(text).ok()?.trim_start_matches([' ', '\t', '\n', '\x0b', '\x0c', '\r']);
    if text.is_empty() {
        return Some(0.0);
    }
    let value: f64 = text.parse().ok()?;
    let spelled_infinite = text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    // -0 equals 0.
    (!value.is_nan() && (value.is_finite() || spelled_infinite)).then_some(value + 0.0)
}

fn sort(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let options = Options::parse(args, true, ctx.keys.settings.cluster_enabled, ctx.reads_any_key)?;
    run(ctx, &args[1], options)
}

fn sort_ro(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let options = Options::parse(args, false, ctx.keys.settings.cluster_enabled, ctx.reads_any_key)?;
    run(ctx, &args[1], options)
}

fn run(ctx: &mut KeyContext<'_>, key: &[u8], mut options: Options<'_>) -> Result<KeyFlow, CommandError> {
    let value = ctx.keys.read(key).map(|record| record.value());
    let is_set = matches!(value, Some(ValueRef::Set(_)));
    let mut as_it_is = matches!(options.by, Some(Pattern::Nothing));
    if as_it_is && is_set && (options.store.is_some() || ctx.deny_blocking) {
        // A set has no order of its own, and replicas and scripts must see the same one.
        as_it_is = false;
        options.alpha = true;
        options.by = None;
    }
    let mut items = Items::default();
    let range = collect(value, &options, as_it_is, &mut items)?;
    if !as_it_is {
        items.weigh(&mut ctx.keys, options.by, options.alpha)?;
        items.order(&options, &range);
    }
    match options.store {
        Some(target) => store(ctx, target, &options, &items, range),
        None => show(ctx, &options, &items, range),
    }
    Ok(KeyFlow::Done)
}

/// Takes the elements over and returns which of them LIMIT wants. In the order that is there only these are looked at.
fn collect(
    value: Option<ValueRef<'_>>,
    options: &Options<'_>,
    as_it_is: bool,
    items: &mut Items,
) -> CommandResult<std::ops::Range<usize>> {
    match value {
        None => Ok(0..0),
        Some(ValueRef::List(list)) if as_it_is => {
            let range = options.range(list.len());
            let (from, start) = if options.descending {
                (End::Tail, list.len().saturating_sub(range.start + 1))
            } else {
                (End::Head, range.start)
            };
            if !range.is_empty() {
                list.walk(start, range.len(), from, &mut |element| {
                    items.push(element);
                    true
                });
            }
            Ok(0..range.len())
        }
        Some(ValueRef::ZSet(zset)) if as_it_is => {
            let range = options.range(zset.len());
            if options.descending {
                zset.range_rev(zset.len() - range.end..zset.len() - range.start)
                    .for_each(|(member, _)| items.push(member));
            } else {
                zset.range(range.clone()).for_each(|(member, _)| items.push(member));
            }
            Ok(0..range.len())
        }
        Some(ValueRef::List(list)) => {
            list.for_each(|element| items.push(element));
            items.are_listed = true;
            Ok(options.range(list.len()))
        }
        Some(ValueRef::ZSet(zset)) => {
            zset.iter().for_each(|(member, _)| items.push(member));
            Ok(options.range(zset.len()))
        }
        Some(ValueRef::Set(set)) => {
            set.iter().for_each(|member| items.push(member));
            Ok(options.range(set.len()))
        }
        Some(_) => Err(error::WRONG_TYPE),
    }
}

fn show(ctx: &mut KeyContext<'_>, options: &Options<'_>, items: &Items, range: std::ops::Range<usize>) {
    let mut name = Vec::new();
    ctx.reply.array(range.len() * options.gets.len().max(1));
    for item in &items.items[range] {
        let element = items.element(item);
        if options.gets.is_empty() {
            ctx.reply.bulk(element);
        }
        for pattern in &options.gets {
            let reply = &mut *ctx.reply;
            pattern.with_value(&mut ctx.keys, &mut name, element, |value| match value {
                Some(value) => super::element::reply_element(reply, value),
                None => reply.null(),
            });
        }
    }
}

fn store(ctx: &mut KeyContext<'_>, target: &[u8], options: &Options<'_>, items: &Items, range: std::ops::Range<usize>) {
    let limits: &Limits = &ctx.keys.settings.limits;
    let (mut list, mut name) = (List::new(), Vec::new());
    for item in &items.items[range] {
        let element = items.element(item);
        if options.gets.is_empty() {
            list.push(End::Tail, element, limits);
        }
        for pattern in &options.gets {
            pattern.with_value(&mut ctx.keys, &mut name, element, |value| match value {
                Some(value) => value.with_bytes(|text| list.push(End::Tail, text, limits)),
                None => list.push(End::Tail, b"", limits),
            });
        }
    }
    let len = list.len();
    if len > 0 {
        ctx.keys.insert(target, Value::List(list), None);
        ctx.keys.effects.dirty += len as u64 - 1;
        ctx.keys.touch(target, EventClasses::LIST, "sortstore");
    } else if ctx.keys.delete(target) {
        ctx.keys.touch(target, EventClasses::GENERIC, "del");
    }
    ctx.reply.count(len);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resp::OwnedArgs;

    fn args(line: &str) -> OwnedArgs {
        OwnedArgs::new(line.split(' ').map(str::as_bytes))
    }

    #[test]
    fn keys_and_patterns() {
        for (line, keys, patterns) in [
            ("SORT k", vec![1], false),
            ("SORT k STORE d", vec![1, 3], false),
            ("SORT k BY store GET store STORE a store b", vec![1, 9], false),
            ("SORT k LIMIT 0 store STORE d", vec![1, 6], false),
            ("SORT k BY w_* STORE", vec![1], true),
            ("SORT k BY nosort GET #", vec![1], false),
            ("SORT k GET o_*->f", vec![1], true),
        ] {
            assert_eq!(
                (find_keys(args(line).as_args()), has_patterns(args(line).as_args())),
                (keys, patterns),
                "{line}"
            );
        }
    }

    #[test]
    fn scores_are_read_as_strtod_does() {
        for (text, expected) in [
            ("", Some(0.0)),
            (" 12", Some(12.0)),
            ("1e3", Some(1000.0)),
            ("-inf", Some(f64::NEG_INFINITY)),
            ("nan", None),
            ("1x", None),
            ("1 ", None),
            ("1e999", None),
        ] {
            assert_eq!(score(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn limits_are_cut_to_the_length() {
        for (line, expected) in [
            ("SORT k", 0..10),
            ("SORT k LIMIT 2 3", 2..5),
            ("SORT k LIMIT -5 3", 0..3),
            ("SORT k LIMIT 8 9223372036854775807", 8..10),
            ("SORT k LIMIT 99 1", 10..10),
            ("SORT k LIMIT 3 -7", 3..10),
            ("SORT k LIMIT 3 0", 3..3),
        ] {
            let args = args(line);
            assert_eq!(
                Options::parse(args.as_args(), true, false, true).map(|options| options.range(10)).ok(),
                Some(expected),
                "{line}"
            );
        }
        for line in ["SORT k LIMIT 1", "SORT k BY", "SORT k GET", "SORT k STORE", "SORT k FOO", "SORT k LIMIT a 1"] {
            assert!(Options::parse(args(line).as_args(), true, false, true).is_err(), "{line}");
        }
        for (line, refused) in [("SORT k BY w_*", true), ("SORT k GET #", true), ("SORT k BY nosort STORE d", false)] {
            assert_eq!(Options::parse(args(line).as_args(), true, true, true).is_err(), refused, "{line}");
        }
        assert!(Options::parse(args("SORT_RO k STORE d").as_args(), false, false, true).is_err());
    }

    #[test]
    fn a_part_is_ordered_like_the_whole() {
        let mut random = crate::base::random::Random::seeded(3);
        let build = |random: &mut crate::base::random::Random| {
            let mut items = Items::default();
            for _ in 0..100 {
                items.push(Element::Int(random.below(50) as i64));
                let item = items.items.last_mut().expect("just pushed");
                item.score = random.below(5) as f64;
            }
            items
        };
        for line in ["SORT k", "SORT k DESC"] {
            let line = args(line);
            let options = Options::parse(line.as_args(), true, false, true).expect("well formed");
            let seed = random.clone();
            let mut whole = build(&mut random);
            whole.order(&options, &(0..100));
            let mut part = build(&mut seed.clone());
            part.order(&options, &(20..30));
            let texts =
                |items: &Items| items.items[20..30].iter().map(|item| items.element(item).to_vec()).collect::<Vec<_>>();
            assert_eq!(texts(&whole), texts(&part));
        }
    }
}
