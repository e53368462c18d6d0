//! Tests over all declarations.
use super::*;

#[test]
#[ignore = "prints the skeleton of config/redis.conf"]
fn print_skeleton() {
    for param in PARAMS {
        println!("# {}", param.doc);
        let effect = if param.is(Flags::NO_EFFECT) { "NOEFFECT" } else { "" };
        println!("#! {effect} {:?}", param.aliases);
        for line in param.lines(defaults()) {
            println!("# {} {}", param.name, String::from_utf8_lossy(&line));
        }
        if param.lines(defaults()).is_empty() {
            println!("# {} \"\"", param.name);
        }
        println!();
    }
}
