//! The tree against an ordered set of (score, member), and its rules after every change.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

type Item = &'static (f64, Vec<u8>);

impl Ranked for Item {
    fn score(&self) -> f64 {
        self.0
    }
    fn member(&self) -> &[u8] {
        &self.1
    }
}

fn item(score: u32, member: u32) -> Item {
    Box::leak(Box::new((f64::from(score), member.to_be_bytes().to_vec())))
}

fn pair(item: Item) -> (u32, u32) {
    (item.0 as u32, u32::from_be_bytes(item.1.as_slice().try_into().unwrap()))
}

/// Height of a node whose rules hold.
fn check(node: &Node<Item>, is_root: bool) -> usize {
    match node {
        Node::Leaf(leaf) => {
            assert!(is_root || !leaf.is_empty());
            assert!(leaf.is_sorted_by_key(|item| pair(item)));
            1
        }
        Node::Inner(children) => {
            assert!(!children.is_empty());
            let heights: BTreeSet<usize> = children.iter().map(|child| check(&child.node, false)).collect();
            assert_eq!(heights.len(), 1);
            for child in children.iter() {
                assert_eq!(child.count, child.node.count());
                assert_eq!(child.node.head().map(|(s, i)| (s, pair(i))), Some((child.score, pair(child.first))));
            }
            heights.into_iter().next().unwrap() + 1
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Insert(u32, u32),
    Ascending(u32),
    Descending(u32),
    Random(u32),
    Remove(usize),
    RemoveRanks(usize, usize),
}

fn any_change() -> impl Strategy<Value = Change> {
    let at = any::<usize>();
    // Under Miri enough for a root and leaves that split and join.
    let run = if cfg!(miri) { 90u32 } else { 400 };
    prop_oneof![
        2 => (0u32..50, any::<u32>()).prop_map(|(s, m)| Change::Insert(s, m)),
        1 => (1u32..run).prop_map(Change::Ascending),
        1 => (1u32..run).prop_map(Change::Descending),
        1 => (1u32..run * 2).prop_map(Change::Random),
        2 => at.prop_map(Change::Remove),
        2 => (at, 0..run as usize * 4).prop_map(|(i, n)| Change::RemoveRanks(i, n)),
    ]
}

fn add(tree: &mut Tree<Item>, model: &mut BTreeSet<(u32, u32)>, score: u32, member: u32) {
    if model.insert((score, member)) {
        tree.insert(item(score, member));
    }
}

fn apply(change: Change, tree: &mut Tree<Item>, model: &mut BTreeSet<(u32, u32)>) {
    match change {
        Change::Insert(score, member) => add(tree, model, score, member),
        Change::Ascending(n) => {
            let start = model.last().map_or(500, |(score, _)| *score);
            (0..n).for_each(|i| add(tree, model, start + i, i));
        }
        Change::Descending(n) => {
            let start = model.first().map_or(500, |(score, _)| *score);
            (0..n).for_each(|i| add(tree, model, start.saturating_sub(i), i));
        }
        Change::Random(n) => {
            (0..n).for_each(|i| add(tree, model, i.wrapping_mul(2_654_435_761) % 300, i.wrapping_mul(40_503)))
        }
        Change::Remove(_) | Change::RemoveRanks(..) if model.is_empty() => assert!(!tree.remove(1.0, b"none")),
        Change::Remove(i) => {
            let (score, member) = *model.iter().nth(i % model.len()).unwrap();
            assert!(tree.remove(f64::from(score), &member.to_be_bytes()));
            assert!(!tree.remove(f64::from(score), &member.to_be_bytes()));
            model.remove(&(score, member));
        }
        Change::RemoveRanks(i, n) => {
            let start = i % model.len();
            let expected: Vec<_> = model.iter().skip(start).take(n).copied().collect();
            let mut gone = Vec::new();
            tree.remove_ranks(start..start + n, &mut |item| gone.push(pair(item)));
            assert_eq!(gone, expected);
            expected.iter().for_each(|key| _ = model.remove(key));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 3 } else { 128 }))]

    #[test]
    fn behaves_as_an_ordered_set(
        changes in proptest::collection::vec(any_change(), 0..if cfg!(miri) { 10 } else { 40 }), at in any::<usize>(), count in 0usize..300
    ) {
        let (mut tree, mut model) = (Tree::new(), BTreeSet::new());
        for change in changes {
            apply(change, &mut tree, &mut model);
            if !cfg!(miri) {
                check(&tree.root, true);
            }
            prop_assert_eq!(tree.len(), model.len());
        }
        check(&tree.root, true);
        let all: Vec<(u32, u32)> = model.into_iter().collect();
        prop_assert_eq!(tree.iter(0, usize::MAX).map(pair).collect::<Vec<_>>(), all.clone());
        prop_assert_eq!(tree.at(all.len()).map(pair), None);
        prop_assert_eq!(tree.iter(all.len(), 3).count() + tree.iter_rev(all.len(), 3).count(), 0);
        if all.is_empty() {
            return Ok(());
        }
        let at = at % all.len();
        let (score, member) = all[at];
        prop_assert_eq!(tree.at(at).map(pair), Some(all[at]));
        prop_assert_eq!(tree.rank(f64::from(score), &member.to_be_bytes()), at);
        prop_assert_eq!(tree.partition_point(|s, _| s <= f64::from(score)), all.partition_point(|(s, _)| *s <= score));
        let up: Vec<_> = all[at..].iter().take(count).copied().collect();
        prop_assert_eq!(tree.iter(at, count).map(pair).collect::<Vec<_>>(), up);
        let down: Vec<_> = all[..=at].iter().rev().take(count).copied().collect();
        prop_assert_eq!(tree.iter_rev(at, count).map(pair).collect::<Vec<_>>(), down);
        let new = f64::from(score) + 0.5;
        if tree.keeps_place(f64::from(score), &member.to_be_bytes(), new) {
            prop_assert!(all.get(at + 1).is_none_or(|(next, _)| f64::from(*next) > new));
        }
    }
}

/// Bytes of the tree per item after inserting a million items.
fn cost(order: impl Fn(u32) -> u32) -> f64 {
    let mut tree = Tree::new();
    for i in 0..1_000_000 {
        tree.insert(item(order(i), i));
    }
    check(&tree.root, true);
    tree.memory() as f64 / 1e6
}

#[test]
#[cfg_attr(miri, ignore)]
fn leaves_are_well_filled() {
    let random = cost(|i| i.wrapping_mul(2_654_435_761) ^ (i >> 7).wrapping_mul(0x9e37_79b1));
    let ascending = cost(|i| i);
    let descending = cost(|i| u32::MAX - i);
    assert!(random < 12.0 && ascending < 10.0 && descending < 10.0, "{random} {ascending} {descending}");
    assert_eq!(size_of::<Run<Item, LEAF>>(), 512);
}
