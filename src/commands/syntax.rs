//! The syntax line of a command, `key [NX | XX] [field value ...]`, read into the tree that COMMAND DOCS answers and from which
//! redis-cli makes its hints.
//!
//! ```text
//!   line  = item*                     item = word | '[' ways ']' (optional) | '<' ways '>' (one of)
//!   ways  = line ('|' line)*          word = TOKEN | name | name:type | '...'
//! ```
//! A group that repeats what stands before it and ends in `...` makes that repeatable.

/// One argument as COMMAND DOCS describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Argument {
    pub name: String,
    /// `string`, `integer`, `key`, `oneof`, `block`, `pure-token` …
    pub kind: &'static str,
    pub token: Option<String>,
    pub optional: bool,
    pub multiple: bool,
    pub multiple_token: bool,
    pub parts: Vec<Argument>,
}

/// The arguments of a syntax line.
pub fn parse(line: &str) -> Vec<Argument> {
    let words = split(line);
    let mut rest = words.as_slice();
    parse_line(&mut rest)
}

/// Words, with brackets and bars on their own.
fn split(line: &str) -> Vec<String> {
    let mut spaced = String::with_capacity(line.len() * 2);
    for c in line.chars() {
        if "[]<>|".contains(c) {
            spaced.extend([' ', c, ' ']);
        } else {
            spaced.push(c);
        }
    }
    // Quotes stand around what is meant to the letter; nothing at all (MIGRATE's key) can only be shown by them.
    let spaced = spaced.replace(EMPTY, EMPTY_MARK).replace('"', "").replace(EMPTY_MARK, EMPTY);
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// Items up to a closing bracket or a bar.
fn parse_line(rest: &mut &[String]) -> Vec<Argument> {
    let mut items: Vec<Argument> = Vec::new();
    while let Some((word, after)) = rest.split_first() {
        match word.as_str() {
            "]" | ">" | "|" => break,
            "[" | "<" => {
                *rest = after;
                let (group, repeats) = parse_group(rest);
                let items_before = items.len();
                let optional = word == "[";
                push_group(&mut items, group, optional, repeats);
                // `<` behind a token without an argument of its own: TOKEN <a | b>.
                if !optional && items_before > 0 {
                    adopt_token(&mut items);
                }
            }
            "..." => {
                *rest = after;
                items.push(Argument { name: "...".into(), ..Argument::default() });
            }
            word => {
                *rest = after;
                items.push(leaf(word));
                adopt_token(&mut items);
            }
        }
    }
    items
}

/// The ways of a group up to its bracket, which is consumed; whether it ends in `...`.
fn parse_group(rest: &mut &[String]) -> (Vec<Vec<Argument>>, bool) {
    let mut ways = vec![parse_line(rest)];
    while rest.first().is_some_and(|word| word == "|") {
        *rest = rest.get(1..).unwrap_or_default();
        ways.push(parse_line(rest));
    }
    *rest = rest.get(1..).unwrap_or_default();
    let mut repeats = false;
    for way in &mut ways {
        let len = way.len();
        way.retain(|item| item.name != "...");
        repeats |= way.len() < len;
    }
    (ways, repeats)
}

fn push_group(items: &mut Vec<Argument>, mut ways: Vec<Vec<Argument>>, optional: bool, repeats: bool) {
    if ways.len() == 1 {
        let way = ways.pop().unwrap_or_default();
        let start = items.len().saturating_sub(way.len());
        if repeats && !way.is_empty() && items.get(start..) == Some(way.as_slice()) {
            let has_token = way.first().is_some_and(|item| item.token.is_some());
            let tail = items.split_off(start);
            let mut item = gather(tail);
            item.multiple = true;
            item.multiple_token = has_token;
            items.push(item);
            return;
        }
        let mut item = gather(way);
        item.optional |= optional;
        item.multiple |= repeats;
        items.push(item);
        return;
    }
    let parts: Vec<Argument> = ways.into_iter().map(gather).collect();
    let name = parts.first().map(|part| part.name.clone()).unwrap_or_default();
    items.push(Argument { name, kind: "oneof", optional, multiple: repeats, parts, ..Argument::default() });
}

/// One item as it is, several as a block.
fn gather(mut items: Vec<Argument>) -> Argument {
    if items.len() == 1 {
        return items.pop().unwrap_or_default();
    }
    let name = items.first().map(|item| item.name.clone()).unwrap_or_default();
    Argument { name, kind: "block", parts: items, ..Argument::default() }
}

/// A token takes the argument behind it: `EX seconds` is one argument with a token.
fn adopt_token(items: &mut Vec<Argument>) {
    let [.., token, value] = items.as_slice() else { return };
    if token.kind == "pure-token"
        && !token.optional
        && value.kind != "pure-token"
        && value.token.is_none()
        && !value.optional
    {
        let token = token.token.clone();
        if let Some(mut value) = items.pop() {
            items.pop();
            value.token = token;
            items.push(value);
        }
    }
}

const EMPTY: &str = "\"\"";
const EMPTY_MARK: &str = "\u{1}";

fn leaf(word: &str) -> Argument {
    if word == EMPTY {
        let token = Some(word.to_owned());
        return Argument { name: "empty-string".to_owned(), kind: "pure-token", token, ..Argument::default() };
    }
    if let Some((name, kind)) = word.split_once(':').and_then(|(name, kind)| known_kind(kind).map(|kind| (name, kind)))
    {
        return Argument { name: name.to_owned(), kind, ..Argument::default() };
    }
    let is_token = word.chars().any(char::is_alphabetic) && !word.chars().any(char::is_lowercase);
    if is_token || !word.chars().any(char::is_alphabetic) {
        let token = Some(word.to_owned());
        return Argument { name: word.to_lowercase(), kind: "pure-token", token, ..Argument::default() };
    }
    Argument { name: word.to_owned(), kind: kind_of(word), ..Argument::default() }
}

fn known_kind(kind: &str) -> Option<&'static str> {
    const KINDS: [&str; 6] = ["integer", "double", "key", "pattern", "unix-time", "string"];
    KINDS.into_iter().find(|known| *known == kind)
}

/// Names say what their values are.
fn kind_of(name: &str) -> &'static str {
    match name {
        "key" | "newkey" | "source" | "destination" | "key1" | "key2" | "dst" | "src" => "key",
        "pattern" => "pattern",
        "timeout" | "longitude" | "latitude" | "radius" | "width" | "height" | "score" => "double",
        "unix-time-seconds" | "unix-time-milliseconds" => "unix-time",
        "seconds" | "milliseconds" | "count" | "index" | "offset" | "numkeys" | "start" | "stop" | "end"
        | "increment" | "decrement" | "cursor" | "db" | "rank" | "limit" | "port" | "length" | "bit" | "len"
        | "version" => "integer",
        _ => "string",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_and_its_options() {
        let arguments = parse("key value [NX | XX] [GET] [EX seconds | PX milliseconds | KEEPTTL]");
        let shapes: Vec<(&str, &str, bool)> =
            arguments.iter().map(|argument| (argument.name.as_str(), argument.kind, argument.optional)).collect();
        assert_eq!(shapes[..3], [("key", "key", false), ("value", "string", false), ("nx", "oneof", true)]);
        assert_eq!(shapes[3], ("get", "pure-token", true));
        assert_eq!(shapes[4].1, "oneof");
        let seconds = &arguments[4].parts[0];
        assert_eq!((seconds.token.as_deref(), seconds.kind), (Some("EX"), "integer"));
    }

    #[test]
    fn an_optional_token_adopts_nothing() {
        let arguments = parse("key [CH] [INCR] score member [score member ...]");
        let shapes: Vec<(&str, Option<&str>)> =
            arguments.iter().map(|argument| (argument.name.as_str(), argument.token.as_deref())).collect();
        assert_eq!(shapes, [("key", None), ("ch", Some("CH")), ("incr", Some("INCR")), ("score", None)]);
        assert!(arguments[3].multiple && arguments[3].parts.len() == 2);
    }

    #[test]
    fn repetition() {
        let arguments = parse("key [key ...]");
        assert_eq!(arguments.len(), 1);
        assert!(arguments[0].multiple && !arguments[0].optional);
        let arguments = parse("key field value [field value ...]");
        assert_eq!(arguments.len(), 2);
        assert_eq!((arguments[1].kind, arguments[1].parts.len(), arguments[1].multiple), ("block", 2, true));
        let arguments = parse("[GET pattern [GET pattern ...]]");
        assert!(arguments[0].multiple && arguments[0].multiple_token && arguments[0].optional);
    }

    #[test]
    fn any_text_ends() {
        for text in ["", "]", "[", "[[|", "a | b", "<x", "... ...", "[a ...] ] b"] {
            parse(text);
        }
    }
}
