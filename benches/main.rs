//! The criterion benches, one program so that the crate is linked once: `cargo bench -- FILTER`.
//!
//! They show where time goes inside the process; what users see is measured by `scripts/bench.sh`.

mod codec;
mod commands;
mod contention;
mod table;

criterion::criterion_group!(
    benches,
    codec::requests,
    codec::replies,
    table::table,
    commands::commands,
    contention::contention
);
criterion::criterion_main!(benches);

/// A request as clients send it.
fn push(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}
