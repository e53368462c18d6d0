//! A listpack from outside: refused, or safe to walk, in both directions to the same elements.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rsredis::engine::listpack::Listpack;

fuzz_target!(|bytes: &[u8]| {
    let Some(listpack) = Listpack::from_bytes(bytes) else { return };
    assert_eq!(listpack.iter().count(), listpack.len());
    let mut backwards = 0;
    let mut at = listpack.last();
    while let Some(pos) = at {
        backwards += 1;
        at = listpack.prev(pos);
    }
    assert_eq!(backwards, listpack.len());
});
