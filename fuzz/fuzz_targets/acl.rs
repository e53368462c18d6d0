//! Rules of users: no words upset the reader, and the text that describes a user makes the same user again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rsredis::commands;
use rsredis::server;
use rsredis::server::acl::rules::{Rules, join_selectors};
use rsredis::server::acl::selector::Selector;
use rsredis::server::acl::{User, describe};
use rsredis::server::table::CommandTable;
use std::sync::LazyLock;

static TABLE: LazyLock<&CommandTable> =
    LazyLock::new(|| CommandTable::leak(commands::FAMILIES, server::commands::FAMILIES));

fn made<W: AsRef<[u8]>>(words: &[W]) -> Option<User> {
    let rules = Rules { table: *TABLE, all_channels: false };
    let mut user = User::new(1, b"u", *TABLE, false);
    for word in join_selectors(words).ok()? {
        // A word that is refused changes nothing.
        let _ = rules.apply(&mut user, &word);
    }
    Some(user.settle(*TABLE))
}

fuzz_target!(|bytes: &[u8]| {
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let Some(user) = made(&words) else { return };
    let text = describe::user(*TABLE, &user);
    // As in Redis, a word inside of parentheses that ends with one cannot be told from the end of the selector.
    let is_ambiguous = |word: &[u8]| word.ends_with(b")");
    let words_of = |selector: &Selector| {
        let keys = selector.keys.iter().map(|key| &key.pattern);
        keys.chain(&selector.channels).chain(selector.first_args.values().flatten()).any(|word| is_ambiguous(word))
    };
    if user.selectors.iter().any(words_of) {
        return;
    }
    let again: Vec<&[u8]> = text.split(|byte| *byte == b' ').collect();
    let again = made(&again).expect("what is described can be read");
    assert_eq!(describe::user(*TABLE, &again), text, "{}", String::from_utf8_lossy(&text));
});
