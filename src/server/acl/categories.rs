//! The categories of commands. Which commands belong to one is never listed: it follows from the declaration of each command.

use crate::commands::spec::Spec;
use crate::server::table::Entry;

/// In the order in which ACL CAT shows them, and in which rules of users are put together.
pub const NAMES: [&str; 21] = [
    "keyspace",
    "read",
    "write",
    "set",
    "sortedset",
    "list",
    "hash",
    "string",
    "bitmap",
    "hyperloglog",
    "geo",
    "stream",
    "pubsub",
    "admin",
    "fast",
    "slow",
    "blocking",
    "dangerous",
    "connection",
    "transaction",
    "scripting",
];

/// Index in `NAMES` of a category, by its name in any case of letters.
pub fn find(name: &[u8]) -> Option<usize> {
    NAMES.iter().position(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

/// The categories of a command, one bit each.
pub fn bits_of(spec: &Spec) -> u32 {
    let bit = |name: &str| NAMES.iter().position(|known| *known == name).map_or(0, |index| 1 << index);
    spec.acl_categories().into_iter().map(bit).fold(0, |bits, bit| bits | bit)
}

pub fn contains(category: usize, entry: &Entry) -> bool {
    entry.categories & 1 << category != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::table::CommandTable;
    use std::collections::HashSet;

    /// `category command` lines from a stock server (ACL CAT of every category).
    const STOCK: &str = include_str!("categories.txt");

    #[test]
    fn every_category_holds_what_it_holds_in_redis() {
        let table = CommandTable::leak(
            crate::commands::FAMILIES,
            &[
                crate::server::commands::FAMILIES,
                crate::script::commands::FAMILIES,
                &[crate::persistence::commands::COMMANDS],
            ]
            .concat(),
        );
        let stock: HashSet<(&str, &str)> = STOCK.lines().filter_map(|line| line.split_once(' ')).collect();
        let known: HashSet<&str> = stock.iter().map(|(_, command)| *command).collect();
        let mut different = Vec::new();
        for entry in table.iter().filter(|entry| known.contains(entry.full_name.as_str())) {
            for (category, name) in NAMES.iter().enumerate() {
                if contains(category, entry) != stock.contains(&(*name, entry.full_name.as_str())) {
                    different.push(format!("{} @{name}: here {}", entry.full_name, contains(category, entry)));
                }
            }
        }
        assert!(different.is_empty(), "{different:#?}");
    }

    #[test]
    fn all_names_that_declarations_use_are_known() {
        let table = CommandTable::leak(crate::commands::FAMILIES, crate::server::commands::FAMILIES);
        for entry in table.iter() {
            for name in entry.spec.acl_categories() {
                assert!(find(name.as_bytes()).is_some(), "{}: @{name}", entry.full_name);
            }
        }
    }
}
