//! The fuzz targets for what comes by the wire or from an administrator: requests, glob patterns, listpacks, rules of users. Each for
//! a bounded time: nothing panics, and what is accepted means the same however it comes.

mod support;

use rsredis::base::glob;
use rsredis::engine::listpack::Listpack;
use rsredis::persistence::fuzzing;
use rsredis::resp::{Batch, Limits, RequestParser};
use std::time::{Duration, Instant};
use support::fuzz::{Noise, campaign, damage, limit_memory};

fn seeds(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

type Requests = Vec<Vec<Vec<u8>>>;

/// What a connection makes of bytes that come in pieces: its requests, and the error that ends it.
fn requests(input: &[u8], cuts: &[usize]) -> (Requests, Option<String>) {
    let limits = Limits { bulk_len_max: 512 << 20, authenticated: true };
    let mut parser = RequestParser::default();
    let (mut buffer, mut found, mut fed) = (Vec::new(), Vec::new(), 0);
    for cut in cuts.iter().copied().chain([input.len()]) {
        buffer.extend_from_slice(&input[fed..cut]);
        fed = cut;
        loop {
            let mut batch = Batch::default();
            let parsed = parser.parse(&mut buffer, 0, 7, limits, &mut batch);
            for index in 0..batch.len() {
                found.push(batch.args(index, &buffer).iter().map(<[u8]>::to_vec).collect());
            }
            match parsed {
                Ok(rest) => drop(buffer.drain(..rest)),
                Err((_, error)) => return (found, Some(error.0)),
            }
            if batch.is_empty() {
                break;
            }
        }
    }
    (found, None)
}

#[test]
fn requests_mean_the_same_in_any_pieces() {
    let sound = seeds(&[
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\nhello\r\nworld\r\n*0\r\nPING \"a b\" '\\''\r\n\r\n*1\r\n$4\r\nPING\r\n*-1\r\nGET k\n",
        "*2\r\n$3\r\nGET\r\n$100\r\nabc",
        "set key \"\\x41\\n\\\"\" 'it''s'\r\nget key\r\n*1\r\n$0\r\n\r\n",
        "*11\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n$1\r\nd\r\n$1\r\ne\r\n$1\r\nf\r\n$1\r\ng\r\n$1\r\nh\r\n$1\r\ni\r\n$1\r\nj\r\n$1\r\nk\r\n",
    ]);
    let words: &[&[u8]] = &[
        b"\r\n",
        b"\r",
        b"\n",
        b"*",
        b"$",
        b"$-1\r\n",
        b"*1048577\r\n",
        b"$0\r\n",
        b"\"",
        b"'",
        b"\\x",
        b"*9\r\n",
        b"*10\r\n",
    ];
    limit_memory();
    campaign("requests", 2000, |_, noise| {
        let input = damage(noise.pick(&sound), &sound, words, noise);
        let whole = requests(&input, &[]);
        let mut cuts: Vec<usize> = (0..noise.below(12)).map(|_| noise.below(input.len() + 1)).collect();
        cuts.sort_unstable();
        assert_eq!(requests(&input, &cuts), whole, "cut at {cuts:?}: {}", input.escape_ascii());
        let every: Vec<usize> = (0..input.len()).collect();
        assert_eq!(requests(&input, &every), whole, "byte by byte: {}", input.escape_ascii());
    });
}

#[test]
fn patterns_end_and_keep_their_word() {
    let sound = seeds(&[
        "h?llo",
        "h[ae]llo*",
        "*a*b*c*",
        "[^a-z]\\*?",
        "user:[0-9][0-9]:*",
        "a\\[b\\]c",
        "[a-]",
        "[\\]x]*",
        "**********b",
    ]);
    let words: &[&[u8]] = &[b"*", b"?", b"[", b"]", b"\\", b"-", b"^", b"[^", b"a*", b"*a*a*a*a*a*a*a*a"];
    campaign("patterns", 2000, |_, noise| {
        let pattern = damage(noise.pick(&sound), &sound, words, noise);
        let text: Vec<u8> = (0..noise.below(200)).map(|_| b"aab[]*\\-^:0x"[noise.below(12)]).collect();
        let matches = glob::matches(&pattern, &text);
        // On a machine that has something else to do once may be slow, but not every time.
        let is_quick = || {
            let start = Instant::now();
            glob::matches(&pattern, &text);
            glob::matches_ignoring_case(&pattern, &text);
            start.elapsed() < Duration::from_secs(1)
        };
        assert!((0..3).any(|_| is_quick()), "{}", pattern.escape_ascii());
        assert!(glob::matches(b"*", &text));
        if !pattern.iter().any(|byte| b"*?[\\".contains(byte)) {
            assert_eq!(matches, pattern == text, "{}", pattern.escape_ascii());
        }
        // With every special byte escaped a text is a pattern for itself alone.
        let escaped: Vec<u8> = text.iter().flat_map(|byte| [b'\\', *byte]).collect();
        assert!(glob::matches(&escaped, &text), "{}", text.escape_ascii());
        let mut other = text.clone();
        other.push(b'z');
        assert!(!glob::matches(&escaped, &other), "{}", text.escape_ascii());
    });
}

#[test]
fn damaged_listpacks_are_refused_or_sound() {
    let mut sound = Vec::new();
    for round in 0..8usize {
        let mut pack = Listpack::new();
        for n in 0..round * 20 {
            match n % 6 {
                0 => pack.push_back_int(n as i64 - 5),
                1 => pack.push_back_int(i64::MIN + n as i64),
                2 => pack.push_back(&vec![b'x'; n * round]),
                3 => pack.push_back_int(1 << (n % 63)),
                4 => pack.push_back(&vec![b'y'; 4000 * (round / 7)]),
                _ => pack.push_back(format!("field:{n}").as_bytes()),
            }
        }
        sound.push(pack.as_bytes().to_vec());
    }
    limit_memory();
    campaign("listpacks", 2000, |_, noise| {
        let mut bytes = damage(noise.pick(&sound), &sound, &[], noise);
        // The length is right more often than chance would have it, so that the entries are looked at.
        let len = (bytes.len() as u32).to_le_bytes();
        if noise.below(4) > 0
            && let Some(head) = bytes.first_chunk_mut::<4>()
        {
            *head = len;
        }
        let Some(pack) = Listpack::from_bytes(&bytes) else { return };
        check_listpack(pack, noise);
    });
}

/// Reads a listpack from both ends, then changes it beside a vector.
fn check_listpack(mut pack: Listpack, noise: &mut Noise) {
    let forward: Vec<Vec<u8>> = pack.iter().map(|element| element.to_vec()).collect();
    assert_eq!(forward.len(), pack.len());
    let mut backward = Vec::new();
    let mut at = pack.last();
    while let Some(pos) = at {
        backward.push(pack.get(pos).to_vec());
        at = pack.prev(pos);
    }
    backward.reverse();
    assert_eq!(forward, backward);
    let mut model = forward;
    for _ in 0..10 {
        let text: Vec<u8> = match noise.below(3) {
            0 => (noise.next() as i64 >> noise.below(64)).to_string().into_bytes(),
            1 => vec![b'v'; noise.below(5000)],
            _ => (0..noise.below(20)).map(|_| noise.next() as u8).collect(),
        };
        let index = noise.below(model.len());
        let Some(pos) = pack.seek(index as i64) else {
            assert!(model.is_empty());
            pack.push_front(&text);
            model.insert(0, text);
            continue;
        };
        match noise.below(5) {
            0 => {
                pack.insert_before(pos, &text);
                model.insert(index, text);
            }
            1 => {
                pack.insert_after(pos, &text);
                model.insert(index + 1, text);
            }
            2 => {
                pack.replace(pos, &text);
                model[index] = text;
            }
            3 => {
                pack.remove(pos);
                model.remove(index);
            }
            _ => {
                let tail = pack.split_off(pos);
                pack.append(&tail);
            }
        }
    }
    assert_eq!(pack.iter().map(|element| element.to_vec()).collect::<Vec<_>>(), model);
    assert!(Listpack::from_bytes(pack.as_bytes()).is_some(), "its own bytes are refused");
}

#[test]
fn rules_of_users_describe_themselves() {
    let sound = seeds(&[
        "on >secret ~* &* +@all",
        "off nopass ~key:* %R~read:* %W~write:* +get +set -@dangerous",
        "on #2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b resetkeys ~a ~b allchannels +@read -get +config|get",
        "on nopass (~temp:* +@write -del) (%RW~x +@all &chan:*) +client|list -client|kill",
        "reset on sanitize-payload resetchannels &a &b allkeys allcommands -@all +select|0 clearselectors (+ping)",
        "on >a >b <a resetpass >c nopass skip-sanitize-payload +acl -acl|setuser +xinfo|help -@blocking +blpop",
    ]);
    let words: &[&[u8]] = &[
        b" ",
        b"+",
        b"-",
        b"@",
        b"~",
        b"&",
        b"%",
        b"%RW~",
        b">",
        b"<",
        b"#",
        b"!",
        b"(",
        b")",
        b"|",
        b" +@all ",
        b" -@all ",
        b" allkeys ",
        b" resetkeys ",
        b" +get ",
        b" -get ",
        b" +client|id ",
        b" -client ",
        b" +@string ",
        b" -@scripting ",
        b" on ",
        b" off ",
        b" reset ",
        b" (+get ~x) ",
    ];
    campaign("rules", 200, |_, noise| fuzzing::acl(&damage(noise.pick(&sound), &sound, words, noise)));
}
