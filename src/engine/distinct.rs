//! Whether a blob from outside names anything twice.

use std::borrow::Cow;
use std::collections::HashSet;

use crate::engine::listpack::Element;

/// Compares texts: a hostile blob may spell one text once as integer and once as string.
pub(super) fn all_distinct<'a>(elements: impl Iterator<Item = Element<'a>>) -> bool {
    let mut seen: HashSet<Cow<'a, [u8]>> = HashSet::new();
    elements.into_iter().all(|element| {
        seen.insert(match element {
            Element::Int(_) => Cow::Owned(element.to_vec()),
            Element::Bytes(text) => Cow::Borrowed(text),
        })
    })
}
