//! The request parser: whatever the bytes and however they are cut, it does not panic, and the cuts change nothing.
//!
//! The first byte of the input says where the rest is cut; both ways of presenting the rest must give the same requests
//! and the same end.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rsredis::resp::{Batch, Limits, RequestParser};

/// Requests in order, and whether the stream ended in a protocol error.
fn requests(bytes: &[u8], piece: usize) -> (Vec<Vec<Vec<u8>>>, bool) {
    let limits = Limits { bulk_len_max: 1 << 20, authenticated: true };
    let (mut parser, mut batch, mut buffer) = (RequestParser::default(), Batch::default(), Vec::new());
    let mut found = Vec::new();
    for part in bytes.chunks(piece) {
        buffer.extend_from_slice(part);
        loop {
            batch.clear();
            let parsed = parser.parse(&mut buffer, 0, 32, limits, &mut batch);
            for index in 0..batch.len() {
                let args = batch.args(index, &buffer);
                found.push((0..args.len()).map(|place| args[place].to_vec()).collect());
            }
            let Ok(end) = parsed else { return (found, true) };
            buffer.drain(..end);
            if end == 0 {
                break;
            }
        }
    }
    (found, false)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, rest)) = bytes.split_first() else { return };
    assert_eq!(requests(rest, rest.len().max(1)), requests(rest, usize::from(*first) + 1));
});
