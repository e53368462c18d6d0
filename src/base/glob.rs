//! Redis's glob patterns: `*`, `?`, `[a-c^]`, `\` escapes (redis.io/commands/keys). Case-sensitive, or ASCII-insensitive.
//!
//! Backtracking is limited to the last `*` seen, which is complete for globs: the time is O(pattern × text), never exponential.

/// Whether `text` matches `pattern` as a whole.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, |a| a)
}

/// The same with ASCII case folded, as CONFIG GET and COMMAND LIST do.
pub fn matches_ignoring_case(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, |a| a.to_ascii_lowercase())
}

/// Redis gives up on patterns with more stars (a nest of its recursion for each), and so do we.
const STARS_MAX: usize = 1000;

fn run(pattern: &[u8], text: &[u8], fold: fn(u8) -> u8) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    let mut stars = 0;
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            stars += 1;
            if stars > STARS_MAX {
                return false;
            }
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            star = Some((p, t));
            continue;
        }
        if p < pattern.len()
            && let Some(next) = match_one(&pattern[p..], text[t], fold)
        {
            p += next;
            t += 1;
            continue;
        }
        match star {
            Some((after_star, from)) => {
                p = after_star;
                t = from + 1;
                star = Some((after_star, from + 1));
            }
            None => return false,
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// Matches one byte against the head of a pattern; the length of that head if it fits.
fn match_one(pattern: &[u8], byte: u8, fold: fn(u8) -> u8) -> Option<usize> {
    match pattern[0] {
        b'?' => Some(1),
        b'[' => match_class(pattern, byte, fold),
        b'\\' if pattern.len() > 1 => (fold(pattern[1]) == fold(byte)).then_some(2),
        literal => (fold(literal) == fold(byte)).then_some(1),
    }
}

/// A class; one without its `]` runs to the end of the pattern, as in Redis.
fn match_class(pattern: &[u8], byte: u8, fold: fn(u8) -> u8) -> Option<usize> {
    let byte = fold(byte);
    let mut i = 1;
    let negated = pattern.get(i) == Some(&b'^');
    if negated {
        i += 1;
    }
    let mut found = false;
    loop {
        match pattern.get(i) {
            None => break,
            Some(b']') => {
                i += 1;
                break;
            }
            Some(b'\\') if i + 1 < pattern.len() => {
                found |= fold(pattern[i + 1]) == byte;
                i += 2;
            }
            Some(first) if i + 2 < pattern.len() && pattern[i + 1] == b'-' => {
                let (a, b) = (fold(*first), fold(pattern[i + 2]));
                found |= (a.min(b)..=a.max(b)).contains(&byte);
                i += 3;
            }
            Some(single) => {
                found |= fold(*single) == byte;
                i += 1;
            }
        }
    }
    (found != negated).then_some(i)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_as_redis_documents_them() {
        for (pattern, text, expected) in [
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("\\*", "*", true),
            ("\\*", "x", false),
            ("a[", "a", false),
            ("[abc", "c", true),
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
        assert!(matches_ignoring_case(b"MAXMEM*", b"maxmemory"));
    }

    #[test]
    fn many_stars_take_bounded_time() {
        let pattern = b"a*a*a*a*a*a*a*a*a*a*a*a*a*a*b".to_vec();
        assert!(!matches(&pattern, &vec![b'a'; 20_000]));
    }
}
