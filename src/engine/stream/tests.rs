//! A stream behaves as a map of ids, whatever is added, deleted and trimmed; groups keep both sides of what is pending.

use super::*;
use crate::engine::limits::Limits;
use crate::engine::listpack::Element;
use proptest::prelude::*;
use std::collections::BTreeMap;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fn fields(entry: &Entry<'_>) -> Fields {
    entry.fields().map(|(field, value)| (field.to_vec(), value.to_vec())).collect()
}

fn add(stream: &mut Stream, id: StreamId, fields: &Fields, limits: &Limits) -> Result<(), Refused> {
    stream.append(id, fields.iter().map(|(field, value)| (field.as_slice(), value.as_slice())), limits)
}

fn pair(field: &str, value: &str) -> Fields {
    vec![(field.into(), value.into())]
}

/// `count` entries 1-0, 2-0, …
fn counted(count: u64, limits: &Limits) -> Stream {
    let mut stream = Stream::new();
    for n in 1..=count {
        add(&mut stream, StreamId::new(n, 0), &pair("n", &n.to_string()), limits).expect("ids grow");
    }
    stream
}

#[test]
fn a_node_has_redis_s_bytes() {
    let limits = Limits::default();
    let mut stream = Stream::new();
    add(&mut stream, StreamId::new(1, 5), &pair("f", "1"), &limits).expect("new");
    add(&mut stream, StreamId::new(2, 0), &pair("f", "x"), &limits).expect("new");
    add(&mut stream, StreamId::new(3, 0), &pair("g", "2"), &limits).expect("new");
    assert!(stream.remove(StreamId::new(2, 0)) && !stream.remove(StreamId::new(2, 0)));
    let (id, pack) = stream.nodes().next().expect("one node");
    assert_eq!(id, StreamId::new(1, 5));
    let int = |value: i64| Element::Int(value);
    let text = |text: &'static str| Element::Bytes(text.as_bytes());
    let expected = [
        [int(2), int(1), int(1), text("f"), int(0)].as_slice(),
        &[int(2), int(0), int(0), int(1), int(4)],
        &[int(3), int(1), int(-5), text("x"), int(4)],
        &[int(0), int(2), int(-5), int(1), text("g"), int(2), int(6)],
    ]
    .concat();
    assert_eq!(pack.iter().collect::<Vec<_>>(), expected);
    assert!(node::check(pack, id).is_some());
    assert!(node::check(pack, StreamId::new(4, 0)).is_some(), "deltas are relative");
    assert!(node::check(pack, StreamId::new(u64::MAX, 5)).is_none(), "ids would wrap around");
}

#[test]
fn limits_of_a_node() {
    let limits = Limits { stream_node_max_entries: 10, ..Limits::default() };
    assert_eq!(counted(95, &limits).nodes().len(), 10);
    let limits = Limits { stream_node_max_entries: 0, stream_node_max_bytes: 0, ..Limits::default() };
    let many = if cfg!(miri) { 100 } else { 1000 };
    assert_eq!(counted(many, &limits).nodes().len(), 1);
    let limits = Limits { stream_node_max_bytes: 100, ..Limits::default() };
    assert!(counted(100, &limits).nodes().all(|(_, pack)| pack.byte_len() < 120));
    let mut stream = counted(1, &limits);
    assert_eq!(add(&mut stream, StreamId::new(1, 0), &pair("a", "b"), &limits), Err(Refused::NotAboveLast));
}

#[test]
fn trims_by_length_and_by_id() {
    let limits = Limits { stream_node_max_entries: 10, ..Limits::default() };
    let trim = |threshold, approximate, limit| {
        let mut stream = counted(100, &limits);
        let deleted = stream.trim(&Trim { threshold, approximate, limit }, References::Keep);
        assert_eq!(deleted as usize, 100 - stream.len());
        (deleted, stream.first_id().ms)
    };
    assert_eq!(trim(Threshold::MaxLen(35), false, 0), (65, 66));
    assert_eq!(trim(Threshold::MaxLen(35), true, 0), (60, 61));
    assert_eq!(trim(Threshold::MaxLen(35), true, 25), (20, 21));
    assert_eq!(trim(Threshold::MaxLen(35), true, 5), (0, 1));
    assert_eq!(trim(Threshold::MaxLen(100), false, 0), (0, 1));
    assert_eq!(trim(Threshold::MaxLen(0), false, 0), (100, 0));
    assert_eq!(trim(Threshold::MinId(StreamId::new(35, 0)), false, 0), (34, 35));
    assert_eq!(trim(Threshold::MinId(StreamId::new(35, 0)), true, 0), (30, 31));
    assert_eq!(trim(Threshold::MinId(StreamId::new(31, 0)), true, 0), (30, 31));
    assert_eq!(trim(Threshold::MinId(StreamId::MAX), false, 0), (100, 0));
}

#[test]
fn references_are_kept_deleted_or_respected() {
    let limits = Limits { stream_node_max_entries: 4, ..Limits::default() };
    let stream = || {
        let mut stream = counted(10, &limits);
        let mut group = Group::new(StreamId::new(8, 0), Some(8));
        let consumer = group.create_consumer(b"c", 0).expect("new");
        for n in [2, 5] {
            group.assign(StreamId::new(n, 0), consumer, 0, 1);
        }
        assert!(stream.create_group(b"g", group));
        stream
    };
    let pending = |stream: &Stream| stream.group(b"g").map_or(0, Group::pending_len);
    let ids =
        |stream: &Stream| stream.range(StreamId::MIN, StreamId::MAX).map(|entry| entry.id().ms).collect::<Vec<_>>();
    let trim = Trim { threshold: Threshold::MaxLen(1), approximate: false, limit: 0 };

    let mut kept = stream();
    assert_eq!((kept.trim(&trim, References::Keep), pending(&kept)), (9, 2));
    let mut deleted = stream();
    assert_eq!((deleted.trim(&trim, References::Delete), pending(&deleted)), (9, 0));
    let mut respected = stream();
    // 2 and 5 are pending, 9 and 10 not read yet.
    assert_eq!((respected.trim(&trim, References::Respect), ids(&respected)), (6, vec![2, 5, 9, 10]));
    assert_eq!(respected.delete(StreamId::new(2, 0), References::Respect), Deletion::Referenced);
    assert_eq!(respected.delete(StreamId::new(2, 0), References::Delete), Deletion::Deleted);
    assert_eq!(respected.delete(StreamId::new(2, 0), References::Respect), Deletion::NotFound);
    assert_eq!(pending(&respected), 1);
}

#[test]
fn radix_nodes_are_counted_as_redis_builds_them() {
    let nodes = |ids: &[(u64, u64)]| {
        let limits = Limits { stream_node_max_entries: 1, ..Limits::default() };
        let mut stream = Stream::new();
        for (ms, seq) in ids {
            add(&mut stream, StreamId::new(*ms, *seq), &pair("f", "v"), &limits).expect("ids grow");
        }
        stream.radix_nodes()
    };
    assert_eq!(nodes(&[]), 1);
    assert_eq!(nodes(&[(1, 1)]), 2);
    // The stretch of 15 zeros, the fork, two leaves.
    assert_eq!(nodes(&[(0, 1), (0, 2)]), 4);
    // 7 zeros, the fork, for each branch a stretch and a leaf.
    assert_eq!(nodes(&[(1, 1), (2, 1)]), 6);
    assert_eq!(nodes(&[(1, 1), (1, 2), (2, 1)]), 8);
}

#[test]
fn counting_what_a_group_has_read() {
    let limits = Limits::default();
    let mut stream = counted(5, &limits);
    let mut group = Group::new(StreamId::MIN, None);
    assert_eq!(stream.counter().lag(&group), Some(5));
    let counter = stream.counter();
    for n in 1..=3 {
        counter.advance(&mut group, StreamId::new(n, 0));
    }
    assert_eq!((group.entries_read, counter.lag(&group)), (Some(3), Some(2)));
    // A gap behind the group does not matter, one ahead does.
    stream.remove(StreamId::new(2, 0));
    assert_eq!(stream.counter().lag(&group), Some(2));
    stream.remove(StreamId::new(4, 0));
    assert_eq!(stream.counter().lag(&group), None);
    // As in Redis 7.0, an entry behind the gap counts as the next one.
    stream.counter().advance(&mut group, StreamId::new(5, 0));
    assert_eq!(group.entries_read, Some(4));
    // A group that has lost count finds it again at the last entry.
    let mut lost = Group::new(StreamId::new(3, 0), None);
    stream.counter().advance(&mut lost, StreamId::new(5, 0));
    assert_eq!((lost.entries_read, stream.counter().lag(&lost)), (Some(5), Some(0)));
    assert_eq!(Stream::new().counter().lag(&Group::new(StreamId::MAX, None)), Some(0));
}

#[test]
fn both_sides_of_what_is_pending_agree() {
    let mut group = Group::new(StreamId::MIN, None);
    let (alice, bob) =
        (group.create_consumer(b"alice", 1).expect("new"), group.create_consumer(b"bob", 2).expect("new"));
    assert_eq!(group.create_consumer(b"bob", 2), None);
    let id = |n| StreamId::new(n, 0);
    (1..=4).for_each(|n| group.assign(id(n), alice, 10, 1));
    group.assign(id(2), bob, 20, 2);
    group.release(id(3), 30, 3);
    let of = |group: &Group, name: &[u8]| {
        let consumer = group.find_consumer(name).expect("there");
        group.consumer(consumer).pending(..).map(|id| id.ms).collect::<Vec<_>>()
    };
    assert_eq!((of(&group, b"alice"), of(&group, b"bob"), group.pending_len()), (vec![1, 4], vec![2], 4));
    assert!(group.acknowledge(id(4)) && !group.acknowledge(id(4)));
    assert_eq!(group.owner_name(group.find_pending(id(3)).expect("pending")), b"");
    assert_eq!((group.remove_consumer(b"alice"), group.remove_consumer(b"alice")), (Some(1), None));
    assert_eq!(group.pending(..).map(|(id, _)| id.ms).collect::<Vec<_>>(), [2, 3]);
    // The place of a removed consumer is taken again, its entries are not.
    group.create_consumer(b"carol", 3).expect("new");
    assert_eq!((of(&group, b"carol"), of(&group, b"bob"), group.consumers_len()), (vec![], vec![2], 2));
}

/// Something that happens to a pending entry, at a time.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Assign(usize),
    Release,
    Redeliver,
    Acknowledge,
    RemoveConsumer(usize),
    Ask,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        8 => (0usize..3).prop_map(Happening::Assign),
        2 => Just(Happening::Release),
        4 => Just(Happening::Redeliver),
        4 => Just(Happening::Acknowledge),
        1 => (0usize..3).prop_map(Happening::RemoveConsumer),
        4 => Just(Happening::Ask),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whenever it is asked for and whatever happens in between, the order by time is that of all pending entries.
    #[test]
    fn pending_entries_in_the_order_of_their_delivery(
        steps in prop::collection::vec((happening(), 1u64..12, 0i64..20), 1..120),
        deleted in 0u64..6,
        count in 0usize..8,
    ) {
        let names = [b"a", b"b", b"c"];
        let exists = |id: StreamId| id.ms > deleted;
        let mut group = Group::new(StreamId::MIN, None);
        for (what, id, time) in steps {
            let id = StreamId::new(id, 0);
            match what {
                Happening::Assign(who) => {
                    let owner = group.find_consumer(names[who]).or_else(|| group.create_consumer(names[who], 0));
                    group.assign(id, owner.expect("there now"), time, 1);
                }
                Happening::Release => group.release(id, time, 1),
                Happening::Redeliver => group.redeliver(id, time),
                Happening::Acknowledge => drop(group.acknowledge(id)),
                Happening::RemoveConsumer(who) => drop(group.remove_consumer(names[who])),
                Happening::Ask => {
                    let mut model: Vec<(i64, StreamId)> = group.pending(..).map(|(id, it)| (it.delivered_ms, id)).collect();
                    model.sort_unstable();
                    let expected: Vec<StreamId> =
                        model.iter().filter(|(at, id)| *at <= time && exists(*id)).map(|(_, id)| *id).take(count).collect();
                    prop_assert_eq!(group.longest_pending(time, count, exists), expected);
                    let next = model.iter().filter(|(at, id)| *at > time && exists(*id)).map(|(at, _)| *at).next();
                    let found = group.next_delivery_after(time);
                    // Of entries that exist no more nobody knows before they are come upon.
                    prop_assert!(found == next || found.is_some_and(|at| next.is_none_or(|next| at < next)));
                }
            }
        }
    }
}

#[test]
fn an_entry_that_comes_again_is_claimed_again() {
    let mut stream = counted(3, &Limits::default());
    let mut group = Group::new(StreamId::new(3, 0), None);
    let owner = group.create_consumer(b"a", 0).expect("new");
    group.assign(StreamId::new(3, 0), owner, 5, 1);
    stream.create_group(b"g", group);
    let idlest = |stream: &mut Stream| {
        let (entries, group) = stream.split_mut(b"g").expect("there");
        group.longest_pending(9, 9, |id| entries.contains(id)).len()
    };
    assert!(stream.remove(StreamId::new(3, 0)));
    assert_eq!(idlest(&mut stream), 0);
    let totals = stream.totals();
    stream.set_totals(Totals { last_id: StreamId::new(2, 0), ..totals });
    add(&mut stream, StreamId::new(3, 0), &pair("n", "3"), &Limits::default()).expect("above the last");
    assert_eq!(idlest(&mut stream), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Add { ms: u64, seq: u64, fields: Fields },
    Remove(prop::sample::Index),
    MaxLen(usize, bool),
    MinId(prop::sample::Index, bool),
}

fn step() -> impl Strategy<Value = Step> {
    let text = prop_oneof![Just(b"f".to_vec()), Just(b"12".to_vec()), prop::collection::vec(any::<u8>(), 0..80)];
    let fields = prop::collection::vec((text.clone(), text), 1..4);
    prop_oneof![
        12 => (0u64..3, 0u64..200, fields).prop_map(|(ms, seq, fields)| Step::Add { ms, seq, fields }),
        4 => any::<prop::sample::Index>().prop_map(Step::Remove),
        1 => (0usize..60, any::<bool>()).prop_map(|(len, exact)| Step::MaxLen(len, exact)),
        1 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(at, exact)| Step::MinId(at, exact)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 200 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn is_a_map_of_ids(steps in prop::collection::vec(step(), 1..if cfg!(miri) { 40 } else { 150 }), entries in 1usize..9) {
        let limits = Limits { stream_node_max_entries: entries, ..Limits::default() };
        let mut stream = Stream::new();
        let mut model: BTreeMap<StreamId, Fields> = BTreeMap::new();
        let nth = |model: &BTreeMap<StreamId, Fields>, at: prop::sample::Index| {
            (!model.is_empty()).then(|| *model.keys().nth(at.index(model.len())).expect("in range"))
        };
        for step in steps {
            match step {
                Step::Add { ms, seq, fields } => {
                    let last = stream.last_id();
                    let id = StreamId::new(last.ms + ms, if ms == 0 { last.seq + seq } else { seq });
                    let added = add(&mut stream, id, &fields, &limits);
                    prop_assert_eq!(added.is_ok(), id > last);
                    if added.is_ok() {
                        model.insert(id, fields);
                    }
                }
                Step::Remove(at) => if let Some(id) = nth(&model, at) {
                    model.remove(&id);
                    prop_assert!(stream.remove(id) && !stream.contains(id));
                },
                Step::MaxLen(max, exact) => {
                    let trim = Trim { threshold: Threshold::MaxLen(max as u64), approximate: !exact, limit: 0 };
                    let deleted = stream.trim(&trim, References::Keep) as usize;
                    let wanted = model.len().saturating_sub(max);
                    prop_assert!(deleted <= wanted && (!exact || deleted == wanted) && wanted - deleted < entries);
                    for _ in 0..deleted {
                        model.pop_first();
                    }
                }
                Step::MinId(at, exact) => if let Some(id) = nth(&model, at) {
                    let trim = Trim { threshold: Threshold::MinId(id), approximate: !exact, limit: 0 };
                    let deleted = stream.trim(&trim, References::Keep) as usize;
                    let wanted = model.range(..id).count();
                    prop_assert!(deleted <= wanted && (!exact || deleted == wanted));
                    for _ in 0..deleted {
                        model.pop_first();
                    }
                },
            }
            prop_assert_eq!(stream.len(), model.len());
        }
        let all: Vec<(StreamId, Fields)> =
            stream.range(StreamId::MIN, StreamId::MAX).map(|entry| (entry.id(), fields(&entry))).collect();
        prop_assert!(all.iter().map(|(id, fields)| (id, fields)).eq(&model));
        let mut backward: Vec<StreamId> =
            stream.range_rev(StreamId::MIN, StreamId::MAX).map(|entry| entry.id()).collect();
        backward.reverse();
        prop_assert!(backward.iter().eq(model.keys()));
        prop_assert_eq!(stream.top_id(), model.keys().next_back().copied());
        // Ranges from and to any id, and what a file would hold.
        if let (Some((first, _)), Some((last, _))) = (all.get(all.len() / 3), all.get(all.len() * 2 / 3)) {
            for (start, end) in [(*first, *last), (*last, *first), (first.prev().unwrap_or_default(), last.next().unwrap_or_default())] {
                let expected: Vec<StreamId> = if start <= end { model.range(start..=end).map(|(id, _)| *id).collect() } else { Vec::new() };
                prop_assert_eq!(stream.range(start, end).map(|entry| entry.id()).collect::<Vec<_>>(), expected.clone());
                prop_assert_eq!(stream.range_rev(start, end).count(), expected.len());
            }
        }
        let copy = Entries::from_nodes(stream.nodes().map(|(id, pack)| (id, pack.clone()))).expect("sound");
        prop_assert_eq!(copy.len(), model.len());
    }
}
