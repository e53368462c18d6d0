//! The list against a vector, over all limits: fills, compression depths, thresholds of plain nodes.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Change {
    Push(bool, Vec<u8>),
    Pop(bool),
    Set(usize, Vec<u8>),
    Insert(usize, Vec<u8>),
    RemoveRange(usize, usize),
    RemoveEqual(Vec<u8>, usize, bool),
    Reload,
}

fn any_text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => (0i64..8).prop_map(|v| v.to_string().into_bytes()),
        4 => any::<i64>().prop_map(|v| v.to_string().into_bytes()),
        4 => proptest::collection::vec(b'a'..b'd', 0..80),
        1 => (0usize..if cfg!(miri) { 2 } else { 6 }).prop_map(|i| vec![b'x'; [100, 500, 1000, 5000, 9000, 70_000][i]]),
    ]
}

fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<usize>();
    prop_oneof![
        8 => (any::<bool>(), any_text()).prop_map(|(end, text)| Change::Push(end, text)),
        1 => any::<bool>().prop_map(Change::Pop),
        2 => (at, any_text()).prop_map(|(i, t)| Change::Set(i, t)),
        3 => (at, any_text()).prop_map(|(i, t)| Change::Insert(i, t)),
        1 => (at, 0usize..20).prop_map(|(i, n)| Change::RemoveRange(i, n)),
        1 => (any_text(), 1usize..4, any::<bool>()).prop_map(|(t, n, end)| Change::RemoveEqual(t, n, end)),
        1 => Just(Change::Reload),
    ]
}

fn any_limits() -> impl Strategy<Value = Limits> {
    let fill = prop_oneof![Just(-5i64), Just(-2), Just(-1), Just(0), Just(1), Just(3), Just(20)];
    let threshold = prop_oneof![Just(1usize << 30), Just(1), Just(90)];
    (fill, 0u32..4, threshold).prop_map(|(list_max_listpack_size, list_compress_depth, packed_threshold)| Limits {
        list_max_listpack_size,
        list_compress_depth,
        packed_threshold,
        ..Limits::default()
    })
}

fn end(head: bool) -> End {
    if head { End::Head } else { End::Tail }
}

fn apply(change: Change, list: &mut List, model: &mut Vec<Vec<u8>>, limits: &Limits) {
    let len = model.len();
    match change {
        Change::Push(head, text) => {
            list.push(end(head), &text, limits);
            model.insert(if head { 0 } else { len }, text);
        }
        Change::Insert(i, text) => {
            list.insert(i % (len + 1), &text, limits);
            model.insert(i % (len + 1), text);
        }
        Change::Reload => *list = reload(list, limits),
        _ if len == 0 => {}
        Change::Pop(head) => {
            let expected = if head { model.remove(0) } else { model.pop().unwrap() };
            assert_eq!(list.pop(end(head), limits, |e| e.to_vec()), Some(expected));
        }
        Change::Set(i, text) => {
            assert!(list.set((i % len) as i64 - len as i64, &text, limits));
            model[i % len] = text;
        }
        Change::RemoveRange(i, n) => {
            list.remove_range(i % len, n, limits);
            model.drain(i % len..(i % len + n).min(len));
        }
        Change::RemoveEqual(text, n, head) => {
            let mut at: Vec<usize> = (0..len).filter(|i| model[*i] == text).collect();
            if !head {
                at.reverse();
            }
            at.truncate(n);
            assert_eq!(list.remove_equal(&text, n, end(head), limits), at.len());
            at.sort_unstable();
            at.iter().rev().for_each(|i| _ = model.remove(*i));
        }
    }
}

/// Through the nodes, as RDB does it.
fn reload(list: &List, limits: &Limits) -> List {
    let mut again = List::new();
    for node in list.nodes() {
        let (raw, plain) = match node {
            NodeView::Pack(bytes) => (bytes.to_vec(), false),
            NodeView::Plain(bytes) => (bytes.to_vec(), true),
            NodeView::Squeezed { bytes, raw_len, plain } => {
                (crate::base::lzf::decompress(bytes, raw_len).unwrap(), plain)
            }
        };
        if plain {
            again.append_plain(raw, limits);
        } else {
            again.append_pack(Listpack::from_bytes(&raw).unwrap(), limits);
        }
    }
    again
}

fn texts(list: &List) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    list.for_each(|e| all.push(e.to_vec()));
    all
}

proptest! {
    #[test]
    fn behaves_as_a_vector(
        limits in any_limits(), changes in proptest::collection::vec(any_change(), 0..if cfg!(miri) { 30 } else { 120 }),
        start in any::<usize>(), count in 0usize..200
    ) {
        let (mut list, mut model) = (List::new(), Vec::new());
        for change in changes {
            apply(change, &mut list, &mut model, &limits);
            prop_assert_eq!(list.len(), model.len());
            prop_assert_eq!(texts(&list), model.clone());
        }
        prop_assert_eq!(texts(&list.clone()), model.clone());
        let depth = limits.list_compress_depth as usize;
        let squeezed: Vec<bool> = list.nodes().map(|n| matches!(n, NodeView::Squeezed { .. })).collect();
        prop_assert!(depth == 0 || !squeezed.iter().take(depth).chain(squeezed.iter().rev().take(depth)).any(|s| *s));
        if model.is_empty() {
            return Ok(());
        }
        let start = start % model.len();
        let mut seen = Vec::new();
        list.walk(start, count, End::Tail, &mut |e| { seen.push(e.to_vec()); true });
        let expected: Vec<_> = model[..=start].iter().rev().take(count).cloned().collect();
        prop_assert_eq!(seen, expected);
        prop_assert_eq!(list.with_index(start as i64, |e| e.to_vec()), Some(model[start].clone()));
        prop_assert_eq!(list.with_index(model.len() as i64, |_| ()), None);
        for from in [End::Head, End::Tail] {
            let mut found = Vec::new();
            list.search(&model[start], &Search { from, skip: 1, count: 3, maxlen: count }, |i| found.push(i));
            let mut order: Vec<usize> = (0..model.len()).collect();
            if from == End::Tail { order.reverse(); }
            let expected: Vec<_> =
                order.into_iter().take(count).filter(|i| model[*i] == model[start]).skip(1).take(3).collect();
            prop_assert_eq!(found, expected);
        }
    }
}

#[test]
fn encodings_change_at_the_limits_of_redis() {
    let limits = Limits { list_max_listpack_size: 4, ..Limits::default() };
    let mut list = List::new();
    for i in 0..5 {
        assert!(list.is_packed());
        list.push(End::Tail, i.to_string().as_bytes(), &limits);
    }
    assert!(!list.is_packed());
    assert_eq!(list.nodes().len(), 2);
    // One node is left with one element, then it has shrunk to half of four.
    for _ in 0..2 {
        list.pop(End::Tail, &limits, |_| ());
    }
    assert_eq!((list.len(), list.is_packed()), (3, false));
    list.pop(End::Head, &limits, |_| ());
    assert_eq!((list.len(), list.is_packed()), (2, true));
}

#[test]
#[cfg_attr(miri, ignore)]
fn a_long_list_costs_little_more_than_its_bytes() {
    let limits = Limits::default();
    let mut list = List::new();
    for i in 0..100_000 {
        list.push(End::Tail, format!("element:{i:09}").as_bytes(), &limits);
    }
    let per_element = list.memory() as f64 / 100_000.0;
    assert!(per_element <= 20.0, "{per_element} bytes per element of 17");
}
