//! Whether a script without a shebang can touch other keys than those that it is given: found out from its compiled form, once.
//!
//! Such a script has promised nothing, so it would have to run with every shard locked. But most scripts say `KEYS[1]` wherever
//! they name a key, and whoever reads them sees that nothing else can come there. Then the shards of those keys are enough, and
//! scripts on different keys run side by side.
//!
//! ```text
//!   local key = KEYS[1]                       key: one of the keys given
//!   redis.call('zadd', key, ARGV[1], 'x')     a call: where ZADD has its key stands such a one ─► seen
//!   redis.call('get', key .. ':old')          stands something else ─► every shard
//!   local t = {redis}                         what calls, or all the keys, gets out of sight ─► every shard
//! ```
//! Every path through every function is walked with what is known of each register (`walk.rs`) until nothing new is learned. The
//! answer "seen" is a proof: what could bypass it (environments, code made at run time, `redis.call` in a table) makes the answer no.
//! And should the proof be wrong, `Caller::reach` still refuses to touch what is not locked.

mod walk;

use crate::commands::flags::Flags;
use crate::commands::keyspec::{Begin, Find, KeyFlags};
use crate::engine::lua::bytecode;
use crate::resp::OwnedArgs;
use crate::server::table::{CommandTable, Entry};

/// Commands without keys that a script may call all the same: what they do has no place among the shards.
const KEYLESS: &[&str] = &["echo", "ping", "publish", "select", "spublish", "time"];
/// Arguments that an open list is tried with: more than the steps of any command's keys.
const OPEN_ARGS_MAX: usize = 8;

/// An argument of `redis.call` as it is known beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word<'a> {
    Known(&'a [u8]),
    /// One of the keys that the script was given.
    Key,
    Other,
}

/// The arguments of a call; behind them there may be any number more of one kind (`unpack(KEYS)`).
pub struct Words<'a> {
    pub fixed: Vec<Word<'a>>,
    pub open: Option<Word<'a>>,
}

/// Whether a script, compiled and dumped, touches declared keys only.
pub fn keeps_to_its_keys(dumped: &[u8], table: &CommandTable) -> bool {
    bytecode::read(dumped).is_some_and(|script| walk::is_harmless(&script, &|words| stays_within(table, words)))
}

/// Whether a call touches no other keys than those that were given.
fn stays_within(table: &CommandTable, words: &Words<'_>) -> bool {
    let most = if words.open.is_some() { OPEN_ARGS_MAX } else { 0 };
    (0..=most).all(|more| {
        let mut args = words.fixed.clone();
        args.extend(words.open.iter().cycle().take(more));
        call_stays_within(table, &args)
    })
}

fn call_stays_within(table: &CommandTable, words: &[Word<'_>]) -> bool {
    let Some(first) = words.first() else {
        // An error.
        return true;
    };
    let Word::Known(name) = *first else { return false };
    let Some(mut entry) = table.find(name) else { return false };
    if !entry.subcommands.is_empty() {
        let Some(Word::Known(name)) = words.get(1) else { return false };
        let Some(sub) = table.find_sub(entry, name) else { return false };
        entry = sub;
    }
    if !can_be_foreseen(entry) {
        return false;
    }
    if entry.spec.keys.is_empty() {
        return entry.parent.is_none() && KEYLESS.contains(&entry.spec.name);
    }
    if !entry.spec.accepts_arity(words.len()) {
        return true;
    }
    let args = OwnedArgs::new(words.iter().map(|word| match *word {
        Word::Known(text) => text,
        // As a count of keys it is none, and the call not foreseen.
        Word::Key | Word::Other => b"",
    }));
    let mut all_given = true;
    let fits = entry.spec.keys.iter().all(|spec| {
        spec.visit(args.as_args(), &mut |index, flags| {
            all_given &= flags.has(KeyFlags::NOT_KEY) || words.get(index).is_none_or(|word| *word == Word::Key);
        })
    });
    fits && all_given
}

/// Whether the places of a command's keys do not depend on words that are not known yet.
fn can_be_foreseen(entry: &Entry) -> bool {
    let is_fixed = |begin: Begin, find: Find| match (begin, find) {
        (Begin::Index(_), Find::Range { .. } | Find::Count { .. }) => true,
        (Begin::Index(_), Find::Unknown) | (Begin::Keyword(..) | Begin::Unknown, _) => false,
    };
    !entry.spec.flags.has(Flags::ALL_SHARDS.with(Flags::SHARD_BY_SHARD))
        && entry.spec.key_finder.is_none()
        && entry.spec.every_shard_if.is_none()
        && entry.spec.keys.iter().all(|spec| is_fixed(spec.begin, spec.find))
}

#[cfg(test)]
mod tests {
    use super::*;
    use mlua::Lua;

    fn is_seen(script: &str) -> bool {
        use std::sync::LazyLock;
        static TABLE: LazyLock<&'static CommandTable> =
            LazyLock::new(|| CommandTable::leak(crate::commands::FAMILIES, crate::server::commands::FAMILIES));
        let lua = Lua::new();
        let function = lua.load(script).into_function().expect("legal");
        keeps_to_its_keys(&function.dump(true), &TABLE)
    }

    #[test]
    fn scripts_that_name_their_keys() {
        for script in [
            "return redis.call('set', KEYS[1], ARGV[1])",
            "return 1",
            "return {KEYS[1], KEYS[2], ARGV[1], #KEYS}",
            "return KEYS",
            "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) else return 0 end",
            "local current = redis.call('INCR', KEYS[1]) if current == 1 then redis.call('EXPIRE', KEYS[1], ARGV[1]) end",
            "local key, now = KEYS[1], tonumber(ARGV[1]) redis.call('ZREMRANGEBYSCORE', key, '-inf', now - ARGV[2]) \
             if redis.call('ZCARD', key) < tonumber(ARGV[3]) then redis.call('ZADD', key, now, now) return 1 end return 0",
            "local t = redis.call('TIME') redis.call('HSET', KEYS[1], 'at', t[1], unpack(ARGV))",
            "for i = 1, #KEYS do redis.call('INCRBY', KEYS[i], i) end return redis.call('MGET', unpack(KEYS))",
            "for i, key in ipairs(KEYS) do redis.call('SADD', key, i) end",
            "for _, key in pairs(KEYS) do for n = 1, 3 do redis.pcall('SADD', key, n) end end",
            "local call = redis.call local n = 0 while n < 10 do n = n + call('GET', KEYS[1]) end return n",
            "local ok, e = pcall(function() return redis.call('INCR', KEYS[1]) end) return ok",
            "local key = KEYS[1] or KEYS[2] return redis.call('GET', key)",
            "local key if ARGV[1] then key = KEYS[1] else key = KEYS[2] end return redis.call('GET', key)",
            "return redis.call('SUNIONSTORE', KEYS[1], KEYS[2], KEYS[3])",
            "return redis.call('ZUNIONSTORE', KEYS[1], 2, KEYS[2], KEYS[3], 'WEIGHTS', 1, ARGV[1])",
            "return redis.call('OBJECT', 'ENCODING', KEYS[1])",
            "redis.call('RPUSH', KEYS[1], cjson.encode({a = KEYS[1], b = redis.sha1hex('x')})) redis.call('PUBLISH', ARGV[1], 'x')",
            "local t = {} for i = 1, 5 do t[i] = redis.call('LPOP', KEYS[1]) end table.sort(t) return t",
            "local function double(x) return 2 * x end return double(redis.call('GET', KEYS[1]))",
            "if not redis then return end return redis.error_reply('no')",
            "return redis.call('mset', unpack(KEYS))",
            "redis.call()",
        ] {
            assert!(is_seen(script), "{script}");
        }
    }

    #[test]
    fn scripts_of_which_nobody_can_tell() {
        for script in [
            "return redis.call('get', 'x')",
            "return redis.call('get', ARGV[1])",
            "return redis.call('get', KEYS[1] .. ':x')",
            "return redis.call('get', tostring(KEYS[1]))",
            "return pairs(KEYS)",
            "local f, keys = ipairs(KEYS) keys[1] = 'x' return redis.call('get', KEYS[1])",
            "local f, keys, n = ipairs(KEYS) keys[1] = 'x' return redis.call('get', KEYS[1])",
            "return redis.call('mget', KEYS[1], 'x')",
            "return redis.call('mget', KEYS[1], unpack(ARGV))",
            "return redis.call(ARGV[1], KEYS[1])",
            "return redis[ARGV[1]]('get', KEYS[1])",
            "return redis.call(unpack(ARGV))",
            "local key = KEYS[1] if ARGV[1] then key = 'x' end return redis.call('get', key)",
            "local key = KEYS[1] or 'x' return redis.call('get', key)",
            "local key = KEYS[1] for i = 1, 2 do redis.call('get', key) key = key .. i end",
            "KEYS[1] = 'x' return redis.call('get', KEYS[1])",
            "local k = KEYS k[1] = 'x' return redis.call('get', KEYS[1])",
            "table.insert(KEYS, 'x') return redis.call('get', KEYS[1])",
            "rawset(KEYS, 1, 'x') return redis.call('get', KEYS[1])",
            "local function change(t) t[1] = 'x' end change(KEYS) return redis.call('get', KEYS[1])",
            "local keys = KEYS local function change() keys[1] = 'x' end change() return redis.call('get', KEYS[1])",
            "local key = KEYS[1] local function change() key = 'x' end change() return redis.call('get', key)",
            "local f = redis.call local function g() return f('get', 'x') end return g()",
            "local t = {redis.call} return t[1]('get', 'x')",
            "local t = {} t.f = redis.call return t.f('get', 'x')",
            "local t = {} t[redis] = 1 return next(t).call('get', 'x')",
            "local function id(...) return ... end return id(redis).call('get', 'x')",
            "local function get() return redis end return get().call('get', 'x')",
            "return pcall(redis.call, 'get', 'x')",
            "for x in redis.call, 'get', 'x' do return x end",
            "return _G.redis.call('get', 'x')",
            "return loadstring(\"return redis.call('get', 'x')\")()",
            "return getfenv().redis.call('get', 'x')",
            "local r = ARGV[1] and redis or KEYS return r.call('get', KEYS[1])",
            "return ('x'):rep(2, redis)",
            "return redis.call('sort', KEYS[1], 'by', 'x*')",
            "return redis.call('keys', '*')",
            "return redis.call('randomkey')",
            "return redis.call('eval', 'x', 0)",
            "return redis.call('georadius', KEYS[1], 1, 1, 1, 'm', 'store', 'x')",
            "return redis.call('zunionstore', KEYS[1], ARGV[1], KEYS[2], 'x')",
            "return redis.call('zunionstore', KEYS[1], 2, KEYS[2], 'x')",
            "return redis.call('rename', KEYS[1], ARGV[1])",
            "return redis.call('nonesuch', KEYS[1])",
        ] {
            assert!(!is_seen(script), "{script}");
        }
    }
}
