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
//!   local function f(k) … end f(KEYS[1])      a function of its own, called with keys only: so its `k` is one (`facts.rs`)
//! ```
//! Every path through every function is walked with what is known of each register (`walk.rs`) until nothing new is learned. The
//! answer "seen" is a proof: what could bypass it (environments, code made at run time, `redis.call` in a table) makes the answer no.
//! And should the proof be wrong, `Caller::reach` still refuses to touch what is not locked.

mod facts;
mod value;
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
            "for i = 1, 2 do local key = KEYS[i] local f = function() return key end f() end return redis.call('GET', KEYS[1])",
            "while true do local a, b = KEYS[1], {} if redis.call('LPOP', a) then b[1] = a else break end end return #KEYS",
            "repeat local n = redis.call('DECR', KEYS[1]) until n < 0 or not ARGV[1] return {redis.call('GET', KEYS[1])}",
            "if not redis then return end return redis.error_reply('no')",
            "return redis.call('mset', unpack(KEYS))",
            "redis.call()",
        ] {
            assert!(is_seen(script), "{script}");
        }
    }

    #[test]
    fn functions_of_the_script_are_followed() {
        for script in [
            "local function get(key) return redis.call('GET', key) end return get(KEYS[1])",
            "local function get(key) return redis.call('GET', key) end return {get(KEYS[1]), get(KEYS[2])}",
            "local key = KEYS[1] local function get() return redis.call('GET', key) end return get()",
            "local call = redis.call local function get(key) return call('GET', key) end return get(KEYS[1])",
            "local r = redis local function get(key) return r.call('GET', key) end return get(KEYS[1])",
            "local function all(keys) for i = 1, #keys do redis.call('DEL', keys[i]) end end all(KEYS)",
            "local function all(keys) return redis.call('MGET', unpack(keys)) end return all(KEYS)",
            "local function two(a, b) return redis.call('RENAME', a, b) end return two(unpack(KEYS))",
            "local function inner(key) redis.call('INCR', key) end local function outer(key) inner(key) end outer(KEYS[1])",
            "local function f(key, n) if n > 0 then redis.call('INCR', key) return f(key, n - 1) end end f(KEYS[1], 3)",
            "local f f = function(key) redis.call('INCR', key) end f(KEYS[1])",
            "local g local function f(key) return g(key) end g = function(key) return redis.call('GET', key) end return f(KEYS[1])",
            "local function f(key, ...) return redis.call('SADD', key, ...) end return f(KEYS[1], ARGV[1], 'x')",
            "local function f(key, value) return redis.call('SET', key, value) end f(KEYS[1], 1) f(KEYS[2], 'x') f(KEYS[3])",
            "local function f() local key = KEYS[1] return function() return redis.call('GET', key) end end return f()()",
            "local function unused(key) return redis.call('GET', 'x') end return redis.call('GET', KEYS[1])",
            "local key = KEYS[1] for i = 1, 2 do local f = function() return redis.call('GET', key) end f() end",
            "local n = 0 local function count() n = n + 1 end count() redis.call('SET', KEYS[1], n)",
            "local function name(x) return x .. ':' end return redis.call('SET', KEYS[1], name(ARGV[1]))",
        ] {
            assert!(is_seen(script), "{script}");
        }
        for script in [
            "local function get(key) return redis.call('GET', key) end return get('x')",
            "local function get(key) return redis.call('GET', key) end get(KEYS[1]) return get(ARGV[1])",
            "local function get(key) return redis.call('GET', key) end get(KEYS[1]) return get(KEYS[1] .. ':x')",
            "local function get(key) return redis.call('GET', key) end get(KEYS[1]) return pcall(get, 'x')",
            "local function get(key) return redis.call('GET', key) end get(KEYS[1]) local t = {get} return t[1]('x')",
            "local function get(key) return redis.call('GET', key) end local g = ARGV[1] and get or print return g('x')",
            "local function get(key) return redis.call('GET', key) end local g = ARGV[1] and get or type get(KEYS[1]) return g('x')",
            "local function get(key) return redis.call('GET', key) end local function id(f) return f end return id(get)('x')",
            "local function get(key) return redis.call('GET', key) end local function run(f, x) return f(x) end return run(get, 'x')",
            "local function get(key) return redis.call('GET', key) end local t = {} t.g = get get(KEYS[1]) return t.g('x')",
            "local function get(key) return redis.call('GET', key) end for v in get, 'x' do return v end",
            "local function get(key) return redis.call('GET', key) end return coroutine.wrap(get)('x')",
            "local function f(key) key = key .. 'x' return redis.call('GET', key) end return f(KEYS[1])",
            "local key = KEYS[1] local function get() return redis.call('GET', key) end key = 'x' return get()",
            "local key = KEYS[1] local function set() key = 'x' end local function get() return redis.call('GET', key) end set() return get()",
            "local key local function get() return redis.call('GET', key) end for i = 1, 2 do key = KEYS[i] get() key = i end",
            "local key = KEYS[1] if ARGV[1] then local f = function() key = 'x' end f() end return redis.call('GET', key)",
            "local function f(k) local function g() k = 'x' end g() return redis.call('GET', k) end return f(KEYS[1])",
            "local function f(a, b) if a then return f(b, a) end return redis.call('GET', b) end return f(KEYS[1], 'x')",
            "local function f(...) local key = ... return redis.call('GET', key) end return f(KEYS[1])",
            "local function f(...) return redis.call(...) end return f('GET', 'x')",
            "local function f(c, key) return c('GET', key) end return f(redis.call, 'x')",
            "local function f(keys) keys[1] = 'x' end f(KEYS) return redis.call('GET', KEYS[1])",
            "local function f(keys) return keys end f(KEYS)[1] = 'x' return redis.call('GET', KEYS[1])",
            "local call = redis.call local function f() call = print end f() return call('GET', 'x')",
            "local function f(key) return redis.call('GET', key) end local s = getmetatable('') s.__index = f return ('').x",
            "local function f(a, b) b[1] = 'x' end getmetatable('').__concat = f local y = '' .. KEYS return redis.call('GET', KEYS[1])",
            "local function f(a, b) b[1] = 'x' end getmetatable('').__index = f local y = ('')[KEYS] return redis.call('GET', KEYS[1])",
            "local function it(s, c) c[1] = 'x' end for x in it, nil, KEYS do end return redis.call('GET', KEYS[1])",
        ] {
            assert!(!is_seen(script), "{script}");
        }
    }

    /// As they are found in libraries: a rate limiter, a lock that is prolonged, a queue with a helper, a counter with a limit.
    #[test]
    fn scripts_of_the_world() {
        for script in [
            "local rcall = redis.call
             local function refill(key, capacity, rate, now)
                 local bucket = rcall('HMGET', key, 'tokens', 'at')
                 local tokens = tonumber(bucket[1]) or capacity
                 local at = tonumber(bucket[2]) or now
                 return math.min(capacity, tokens + math.max(0, now - at) * rate)
             end
             local function save(key, tokens, now, ttl)
                 rcall('HSET', key, 'tokens', tokens, 'at', now)
                 rcall('PEXPIRE', key, ttl)
             end
             local now = tonumber(ARGV[3])
             local tokens = refill(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), now)
             local allowed = tokens >= 1
             if allowed then tokens = tokens - 1 end
             save(KEYS[1], tokens, now, ARGV[4])
             return {allowed and 1 or 0, tostring(tokens)}",
            "local function owns(key) return redis.call('get', key) == ARGV[1] end
             for _, key in ipairs(KEYS) do if not owns(key) then return 0 end end
             for i = 1, #KEYS do redis.call('pexpire', KEYS[i], ARGV[2]) end
             return #KEYS",
            "local function batches(n, size)
                 local i = 0
                 return function() i = i + size if i - size < n then return i - size + 1, math.min(i, n) end end
             end
             for from, to in batches(#ARGV, 5000) do redis.call('RPUSH', KEYS[1], unpack(ARGV, from, to)) end
             redis.call('ZADD', KEYS[2], ARGV[1], cjson.encode({n = #ARGV}))
             return redis.call('LLEN', KEYS[1])",
            "local source, target, limit = KEYS[1], KEYS[2], tonumber(ARGV[1])
             local function move()
                 local jobs = redis.call('ZRANGEBYSCORE', source, '-inf', ARGV[2], 'LIMIT', 0, limit)
                 if #jobs > 0 then
                     redis.call('ZREM', source, unpack(jobs))
                     redis.call('LPUSH', target, unpack(jobs))
                 end
                 return jobs
             end
             return move()",
        ] {
            assert!(is_seen(script), "{script}");
        }
        // A queue whose keys are put together from a prefix.
        let script = "local rcall = redis.call
             local function add(prefix, id, data) rcall('HSET', prefix .. id, 'data', data) rcall('LPUSH', KEYS[1], id) end
             add(ARGV[1], ARGV[2], ARGV[3])";
        assert!(!is_seen(script), "{script}");
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
            "for i = 1, 2 do local key = KEYS[i] local f = function() key = i end f() redis.call('GET', key) end",
            "local key = KEYS[1] while true do redis.call('GET', key) key = ARGV[1] end",
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
