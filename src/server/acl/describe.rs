//! The rules of a user as text that ACL SETUSER, a `user` line or the ACL file would read back: always in the same form, whatever
//! the words were with which the user was made.
//!
//! Commands are told by categories first, as long as one fits better than not; what is left over is told one by one:
//!
//! ```text
//! +@all  or  -@all      whether commands of the future are allowed decides where to begin
//! -@cat … / +@cat …     the category with the fewest misfits among those that fit more than they misfit, again and again
//! -cmd / +cmd …         every command where the result differs; +cmd|first-arg
//! ```

use super::categories::{self, NAMES};
use super::rules::Rules;
use super::selector::{KeyPattern, Selector};
use super::user::{Sanitize, User};
use crate::server::table::{CommandTable, Entry};

/// Everything about a user but its name.
pub fn user(table: &CommandTable, user: &User) -> Vec<u8> {
    let mut words: Vec<Vec<u8>> = flags(user).into_iter().map(|flag| flag.as_bytes().to_vec()).collect();
    words.extend(user.passwords.iter().map(|hash| [b"#", hash.as_slice()].concat()));
    words.push(selector(table, &user.root));
    let further = user.selectors.iter();
    words.extend(further.map(|one| [b"(", selector(table, one).as_slice(), b")"].concat()));
    words.join(&b' ')
}

/// `name rules`, behind the word `user`.
pub fn line(table: &CommandTable, one: &User) -> Vec<u8> {
    [&one.name, &b" "[..], &user(table, one)].concat()
}

pub fn flags(user: &User) -> Vec<&'static str> {
    let mut flags = vec![if user.enabled { "on" } else { "off" }];
    if user.nopass {
        flags.push("nopass");
    }
    match user.sanitize {
        Sanitize::Unsaid => {}
        Sanitize::Skip => flags.push("skip-sanitize-payload"),
        Sanitize::Yes => flags.push("sanitize-payload"),
    }
    flags
}

fn selector(table: &CommandTable, selector: &Selector) -> Vec<u8> {
    let mut words = Vec::new();
    if selector.all_keys || !selector.keys.is_empty() {
        words.push(keys(selector));
    }
    if !selector.all_channels {
        words.push(b"resetchannels".to_vec());
    }
    if selector.all_channels || !selector.channels.is_empty() {
        words.push(channels(selector));
    }
    words.push(commands(table, selector));
    words.join(&b' ')
}

pub fn keys(selector: &Selector) -> Vec<u8> {
    if selector.all_keys {
        return b"~*".to_vec();
    }
    let rights = |key: &KeyPattern| match (key.read, key.write) {
        (true, false) => &b"%R~"[..],
        (false, true) => b"%W~",
        _ => b"~",
    };
    let words: Vec<Vec<u8>> = selector.keys.iter().map(|key| [rights(key), &*key.pattern].concat()).collect();
    words.join(&b' ')
}

pub fn channels(selector: &Selector) -> Vec<u8> {
    if selector.all_channels {
        return b"&*".to_vec();
    }
    let words: Vec<Vec<u8>> = selector.channels.iter().map(|channel| [b"&", &**channel].concat()).collect();
    words.join(&b' ')
}

pub fn commands(table: &CommandTable, selector: &Selector) -> Vec<u8> {
    let rules = Rules { table, all_channels: false };
    let adds = !selector.commands.future;
    let mut words = vec![if adds { b"-@all".to_vec() } else { b"+@all".to_vec() }];
    // What the words so far allow, and what they still have to explain.
    let mut told = Selector::new(table, false);
    let mut left = selector.clone();
    if !adds {
        told.commands = super::selector::CommandSet::all(table);
    }
    let mut used = [false; NAMES.len()];
    while let Some(category) = best_category(table, &left, &used, adds) {
        used[category] = true;
        let name = NAMES[category];
        words.push(format!("{}@{name}", sign(adds)).into_bytes());
        // The names are those of the table, so nothing is refused.
        let _ = rules.change_category(&mut told, name.as_bytes(), adds);
        let _ = rules.change_category(&mut left, name.as_bytes(), !adds);
    }
    for entry in table.top_level() {
        tell_command(table, entry, selector, &mut told, &mut words);
        for id in &entry.subcommands {
            tell_command(table, table.entry(*id), selector, &mut told, &mut words);
        }
    }
    words.join(&b' ')
}

fn sign(allowed: bool) -> char {
    if allowed { '+' } else { '-' }
}

/// The category that explains most: more of its commands are to be told than not, and of these the fewest misfits.
fn best_category(table: &CommandTable, left: &Selector, used: &[bool], adds: bool) -> Option<usize> {
    let mut best: Option<(usize, usize, usize)> = None;
    for category in (0..NAMES.len()).filter(|category| !used[*category]) {
        let (mut same, mut different) = (0, 0);
        for entry in table.iter().filter(|entry| categories::contains(category, entry)) {
            if left.commands.contains(entry) == adds {
                same += 1;
            } else {
                different += 1;
            }
        }
        let is_better = best.is_none_or(|(_, fewest, most)| different < fewest || (different == fewest && same > most));
        if same > different && is_better {
            best = Some((category, different, same));
        }
    }
    best.map(|(category, ..)| category)
}

fn tell_command(table: &CommandTable, entry: &Entry, wanted: &Selector, told: &mut Selector, words: &mut Vec<Vec<u8>>) {
    let allowed = wanted.commands.contains(entry);
    if allowed != told.commands.contains(entry) {
        words.push(format!("{}{}", sign(allowed), entry.full_name).into_bytes());
        told.commands.change(table, entry, allowed);
    }
    if let Some(args) = wanted.first_args.get(&entry.id).filter(|_| !allowed) {
        words.extend(args.iter().map(|arg| [b"+", entry.full_name.as_bytes(), b"|", arg].concat()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::acl::rules::join_selectors;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static TABLE: LazyLock<&CommandTable> =
        LazyLock::new(|| CommandTable::leak(crate::commands::FAMILIES, crate::server::commands::FAMILIES));

    fn made(words: &[Vec<u8>]) -> User {
        let rules = Rules { table: *TABLE, all_channels: false };
        let mut user = User::new(1, b"u", *TABLE, false);
        for word in words {
            // A word that is refused changes nothing.
            let _ = rules.apply(&mut user, word);
        }
        user.settle(*TABLE)
    }

    fn text(line: &str) -> String {
        let words: Vec<Vec<u8>> = line.split(' ').map(|word| word.as_bytes().to_vec()).collect();
        let joined = join_selectors(&words).expect("balanced");
        String::from_utf8(user(*TABLE, &made(&joined))).expect("ASCII")
    }

    #[test]
    fn the_form_of_redis() {
        for (words, expected) in [
            ("", "off resetchannels -@all"),
            ("on nopass +@all ~* &*", "on nopass ~* &* +@all"),
            ("reset", "off sanitize-payload resetchannels -@all"),
            ("on ~k* +get", "on ~k* resetchannels -@all +get"),
            ("%R~foo %W~foo %RW~bar %R~r %W~w", "off ~foo ~bar %R~r %W~w resetchannels -@all"),
            ("&a &b +@all -config|set", "off resetchannels &a &b +@all -config|set"),
            ("+@all -memory +memory|doctor", "off resetchannels +@all -memory +memory|doctor"),
            ("+memory|doctor +memory", "off resetchannels -@all +memory"),
            ("+select|0 +select|1", "off resetchannels -@all +select|0 +select|1"),
            ("+@all -select +select|0", "off resetchannels +@all -select +select|0"),
            (
                "( ~key1 +get ) (+@write ~w &*)",
                "off resetchannels -@all (~key1 resetchannels -@all +get) (~w &* -@all +@write)",
            ),
        ] {
            assert_eq!(text(words), expected, "{words}");
        }
    }

    #[test]
    fn a_single_category_comes_back_as_it_was() {
        for (category, name) in NAMES.into_iter().enumerate() {
            if !TABLE.iter().any(|entry| categories::contains(category, entry)) {
                continue;
            }
            assert_eq!(text(&format!("+@all -@{name}")), format!("off resetchannels +@all -@{name}"));
            assert_eq!(text(&format!("-@all +@{name}")), format!("off resetchannels -@all +@{name}"));
        }
    }

    fn word() -> impl Strategy<Value = String> {
        let category = proptest::sample::select(&NAMES[..]);
        let commands: Vec<String> = TABLE.iter().map(|entry| entry.full_name.clone()).collect();
        let command = proptest::sample::select(commands);
        prop_oneof![
            (proptest::bool::ANY, category).prop_map(|(adds, name)| format!("{}@{name}", sign(adds))),
            (proptest::bool::ANY, command).prop_map(|(adds, name)| format!("{}{name}", sign(adds))),
            "[+-]@all|%(R|W|RW|WR)~[a-c]{0,2}|~[a-c*]{0,2}|&[a-c*]{0,2}|reset(keys|channels|pass)?|on|off|nopass",
            "\\+(select|get|debug)\\|[a-c]{1,2}|>[a-c]|<[a-c]|clearselectors|(skip-)?sanitize-payload",
            "\\((\\+@(read|write) |\\+get |~[a-c]{1,2} |%W~d |&x ){0,4}\\)",
        ]
    }

    proptest! {
        #[test]
        fn the_text_makes_the_same_user_again(words in proptest::collection::vec(word(), 0..12)) {
            let words: Vec<Vec<u8>> = words.into_iter().map(String::into_bytes).collect();
            let one = made(&words);
            let told = user(*TABLE, &one);
            let again: Vec<Vec<u8>> = told.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect();
            let other = made(&join_selectors(&again).expect("balanced"));
            prop_assert_eq!(user(*TABLE, &other), told);
            prop_assert_eq!(&other.root.commands, &one.root.commands);
            prop_assert_eq!(&other.root.keys, &one.root.keys);
            prop_assert_eq!(&other.selectors.len(), &one.selectors.len());
            prop_assert_eq!(&other.passwords, &one.passwords);
        }

        #[test]
        fn no_word_upsets_the_reader(words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..12), 0..6)) {
            if let Ok(words) = join_selectors(&words) {
                user(*TABLE, &made(&words));
            }
        }
    }
}
