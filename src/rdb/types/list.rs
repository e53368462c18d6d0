//! Lists.
//!
//! ```text
//! 1  LIST              count, elements
//! 10 LIST_ZIPLIST      one ziplist
//! 14 LIST_QUICKLIST    count, ziplists
//! 18 LIST_QUICKLIST_2  count, (container, node): 1 = one plain element, 2 = a listpack       what is written
//! ```

use crate::engine::limits::Limits;
use crate::engine::list::List;
use crate::engine::listpack::Listpack;
use crate::engine::quicklist::{End, NodeView};
use crate::rdb::encode;
use crate::rdb::fault::Fault;
use crate::rdb::format::{NODE_PACKED, NODE_PLAIN, kind};
use crate::rdb::legacy::ziplist;
use crate::rdb::source::{Result, Source};

pub fn put(out: &mut Vec<u8>, list: &List, compress: bool) {
    let nodes = list.nodes();
    encode::length(out, nodes.len() as u64);
    put_nodes(out, nodes, compress);
}

/// Nodes of a slice: some hundred kilobytes at most.
const SLICE_NODES: usize = 16;

pub fn slice(out: &mut Vec<u8>, list: &List, from: u64, compress: bool) -> Option<u64> {
    put_nodes(out, list.nodes().skip(from as usize).take(SLICE_NODES), compress);
    let next = from + SLICE_NODES as u64;
    (next < list.nodes().len() as u64).then_some(next)
}

fn put_nodes<'a>(out: &mut Vec<u8>, nodes: impl Iterator<Item = NodeView<'a>>, compress: bool) {
    for node in nodes {
        match node {
            NodeView::Pack(bytes) => {
                encode::length(out, NODE_PACKED);
                encode::string(out, bytes, compress);
            }
            NodeView::Plain(bytes) => {
                encode::length(out, NODE_PLAIN);
                encode::string(out, bytes, compress);
            }
            NodeView::Squeezed { bytes, raw_len, plain } => {
                encode::length(out, if plain { NODE_PLAIN } else { NODE_PACKED });
                encode::squeezed(out, bytes, raw_len);
            }
        }
    }
}

pub fn decode(kind: u8, source: &mut Source<'_>, limits: &Limits) -> Result<List> {
    let mut list = List::new();
    let count = if kind == kind::LIST_ZIPLIST { 1 } else { source.number()? };
    for _ in 0..count {
        match kind {
            kind::LIST => list.push(End::Tail, &source.string()?, limits),
            kind::LIST_QUICKLIST_2 => decode_node(&mut list, source, limits)?,
            _ => {
                let pack = ziplist::to_listpack(&source.string()?)?;
                append(&mut list, pack, limits);
            }
        }
    }
    if list.is_empty() { Err(Fault::Empty) } else { Ok(list) }
}

fn decode_node(list: &mut List, source: &mut Source<'_>, limits: &Limits) -> Result<()> {
    match source.number()? {
        NODE_PLAIN => {
            let element = source.string()?.into_owned();
            // Redis writes no empty plain node.
            if element.is_empty() {
                return Err(Fault::fixed("Quicklist plain node is empty"));
            }
            list.append_plain(element, limits);
        }
        NODE_PACKED => {
            let pack =
                Listpack::from_bytes(&source.string()?).ok_or(Fault::fixed("Listpack integrity check failed."))?;
            append(list, pack, limits);
        }
        _ => return Err(Fault::fixed("Quicklist integrity check failed.")),
    }
    Ok(())
}

fn append(list: &mut List, pack: Listpack, limits: &Limits) {
    if !pack.is_empty() {
        list.append_pack(pack, limits);
    }
}
