//! Elements of collections in replies.

use crate::engine::listpack::Element;
use crate::resp::Reply;

/// An element on loan as a bulk string.
#[inline]
pub fn reply_element(reply: &mut Reply, element: Element<'_>) {
    match element {
        Element::Int(value) => reply.bulk_integer(value),
        Element::Bytes(text) => reply.bulk(text),
    }
}
