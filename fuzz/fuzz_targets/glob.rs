//! Glob patterns: any pattern against any text ends, and what a pattern means without special characters is equality.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rsredis::base::glob;

fuzz_target!(|input: (&[u8], &[u8])| {
    let (pattern, text) = input;
    let matches = glob::matches(pattern, text);
    if !pattern.iter().any(|byte| b"*?[\\".contains(byte)) {
        assert_eq!(matches, pattern == text);
    }
    // A star in front of a pattern that matches takes nothing away.
    if matches {
        assert!(glob::matches(&[b"*", pattern].concat(), text));
    }
});
