//! See the body of the same name in `persistence::fuzzing`.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rsredis::persistence::fuzzing;

fuzz_target!(|bytes: &[u8]| fuzzing::load(bytes));
