//! DEBUG on the data set: fingerprints, low-level facts of a key, filling a database for a test.

use super::{ANY, DebugCommand};
use crate::commands::args;
use crate::commands::error::{self, CommandError};
use crate::commands::object::encoding_name;
use crate::engine::keyspace::db::NewExpiry;
use crate::engine::keyspace::{Locked, SHARDS};
use crate::engine::record::Record;
use crate::engine::value::{StringRef, ValueRef};
use crate::resp::Args;
use crate::server::commands::{digest, keyspace};
use crate::server::session::{SessionContext, SessionFlow};

pub const SUBCOMMANDS: &[DebugCommand] = &[
    DebugCommand::new("DIGEST", (0, 0), "", "Answers a fingerprint of the whole data set.", digest),
    DebugCommand::new(
        "DIGEST-VALUE",
        (0, ANY),
        "<key> [<key> ...]",
        "Answers a fingerprint of each key's value.",
        digest_value,
    ),
    DebugCommand::new("OBJECT", (1, 2), "<key>", "Shows low-level facts of a key's value.", object),
    DebugCommand::new("LISTPACK", (1, 1), "<key>", "Writes facts of a listpack to the log.", listpack),
    DebugCommand::new("SDSLEN", (1, 1), "<key>", "Shows the lengths of a key and of its string.", sdslen),
    DebugCommand::new(
        "POPULATE",
        (1, 3),
        "<count> [<prefix>] [<size>]",
        "Makes <count> string keys <prefix>:<n> (key:<n>). They are not propagated.",
        populate,
    ),
    DebugCommand::new("HTSTATS", (1, 2), "<dbid> [full]", "Shows statistics of a database's tables.", htstats),
    DebugCommand::new("HTSTATS-KEY", (1, 2), "<key> [full]", "The same for the table of a key's value.", htstats_key),
];

fn digest(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Result<SessionFlow, CommandError> {
    let databases = ctx.worker.server.keyspace.databases();
    let text = digest::of_keyspace(keyspace::all(&mut ctx.locked)?, databases).text();
    ctx.reply.simple(&text);
    Ok(SessionFlow::Done)
}

fn digest_value(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let keys = args.from(2);
    ctx.reply.array(keys.len());
    for key in keys.iter() {
        let found = find(keyspace::all(&mut ctx.locked)?, ctx.session.db, key);
        let text = found.map(digest::of_record).unwrap_or_default().text();
        ctx.reply.simple(&text);
    }
    Ok(SessionFlow::Done)
}

/// Neither expires the key nor counts as an access.
fn find<'a>(locked: &'a Locked, db: usize, key: &[u8]) -> Option<&'a Record> {
    let hash = Locked::hash(key);
    locked.db(hash, db)?.find(hash, key)
}

fn object(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let lfu = ctx.worker.settings.lfu;
    let now_s = ctx.worker.now_ms / 1000;
    let settings = &ctx.worker.settings;
    let record = find(keyspace::all(&mut ctx.locked)?, ctx.session.db, &args[2]).ok_or(error::NO_SUCH_KEY)?;
    let access = record.access();
    // The LRU clock is the lower 24 bits of the time in seconds.
    let idle = if lfu { 0 } else { (now_s as u32).wrapping_sub(access) & 0xff_ffff };
    let mut text = format!(
        "Value at:{:#x} refcount:1 encoding:{} serializedlength:{} lru:{access} lru_seconds_idle:{idle}",
        record.address(),
        encoding_name(record, settings),
        serialized_len(record),
    );
    if let ValueRef::List(list) = record.value() {
        let nodes = list.nodes().len();
        text.push_str(&format!(
            " ql_nodes:{nodes} ql_avg_node:{:.2} ql_listpack_max:{} ql_compressed:{} ql_uncompressed_size:{}",
            list.len() as f64 / nodes.max(1) as f64,
            settings.limits.list_max_listpack_size,
            u8::from(settings.limits.list_compress_depth > 0),
            list.nodes().map(|node| node.raw_len()).sum::<usize>(),
        ));
    }
    ctx.reply.simple(&text);
    Ok(SessionFlow::Done)
}

/// Bytes of the value's elements with a byte of length each: what an RDB file would need without compression, roughly.
fn serialized_len(record: &Record) -> usize {
    let mut len = 1;
    match record.value() {
        ValueRef::String(StringRef::Int(_)) => len += 4,
        ValueRef::String(StringRef::Bytes(bytes)) => len += bytes.len(),
        ValueRef::List(list) => list.for_each(|element| len += 1 + element.with_bytes(<[u8]>::len)),
        ValueRef::Set(set) => set.iter().for_each(|member| len += 1 + member.with_bytes(<[u8]>::len)),
        ValueRef::ZSet(zset) => zset.iter().for_each(|(member, _)| len += 9 + member.with_bytes(<[u8]>::len)),
        ValueRef::Hash(hash) => hash.iter().for_each(|entry| {
            len += 2 + entry.field.with_bytes(<[u8]>::len) + entry.value.with_bytes(<[u8]>::len);
        }),
        ValueRef::Stream(stream) => len += stream.nodes().map(|(_, pack)| 17 + pack.byte_len()).sum::<usize>(),
    }
    len
}

fn listpack(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let record = find(keyspace::all(&mut ctx.locked)?, ctx.session.db, &args[2]).ok_or(error::NO_SUCH_KEY)?;
    if record.encoding() != "listpack" {
        return Err(CommandError::fixed("ERR Not a listpack encoded object."));
    }
    tracing::info!("DEBUG LISTPACK: {} bytes", record.memory(0));
    ctx.reply.simple("Listpack structure printed on stdout");
    Ok(SessionFlow::Done)
}

fn sdslen(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let record = find(keyspace::all(&mut ctx.locked)?, ctx.session.db, &args[2]).ok_or(error::NO_SUCH_KEY)?;
    let ValueRef::String(StringRef::Bytes(value)) = record.value() else {
        return Err(CommandError::fixed("ERR Not an sds encoded string."));
    };
    let (key_len, memory) = (args[2].len(), record.memory(0));
    let text = format!(
        "key_sds_len:{key_len}, key_sds_avail:0, key_zmalloc: {key_len}, val_sds_len:{}, val_sds_avail:{}, val_zmalloc: {}",
        value.len(),
        memory.saturating_sub(key_len + value.len() + 8),
        memory.saturating_sub(key_len),
    );
    ctx.reply.simple(&text);
    Ok(SessionFlow::Done)
}

/// Keys that exist stay as they are.
fn populate(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let positive = |index: usize| args::integer_in(&args[index], 0..=i64::MAX, error::MUST_BE_POSITIVE);
    let count = positive(2)?;
    let prefix = args.get(3).unwrap_or(b"key");
    let size = if args.len() > 4 { positive(4)? as usize } else { 0 };
    let (db, access) = (ctx.session.db, (ctx.worker.now_ms / 1000) as u32 & 0xff_ffff);
    let locked = keyspace::all(&mut ctx.locked)?;
    for n in 0..count {
        let number = crate::base::number::IntText::new(n);
        let key = [prefix, b":", &number].concat();
        let hash = Locked::hash(&key);
        if locked.db(hash, db).and_then(|part| part.find(hash, &key)).is_some() {
            continue;
        }
        let mut value = [b"value:", &*number].concat();
        if size > 0 {
            value.resize(size, 0);
        }
        locked.db_mut(hash, db).set_string(hash, &key, &value, NewExpiry::Clear, access);
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn htstats(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let databases = ctx.worker.server.keyspace.databases();
    let db = args::integer_in(&args[2], 0..=databases as i64 - 1, CommandError::fixed("ERR Out of range database"))?
        as usize;
    let locked = keyspace::all(&mut ctx.locked)?;
    let mut text = String::from("[Dictionary HT]\n");
    let (mut lengths, mut volatile) = (Vec::new(), 0);
    for part in (0..SHARDS).flat_map(|shard| locked.shard(shard).parts(db)) {
        volatile += part.volatile_len();
        add_lengths(&mut lengths, &part.table().chain_lengths());
    }
    text.push_str(&describe_table(&lengths));
    // The marks in the key table are the whole index of keys that expire.
    text.push_str(&format!("[Expires HT]\n number of elements: {volatile}\n"));
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(SessionFlow::Done)
}

fn htstats_key(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let record = find(keyspace::all(&mut ctx.locked)?, ctx.session.db, &args[2]).ok_or(error::NO_SUCH_KEY)?;
    let lengths = match record.value() {
        ValueRef::String(_) | ValueRef::List(_) | ValueRef::Stream(_) => None,
        ValueRef::Set(set) => set.chain_lengths(),
        ValueRef::Hash(hash) => hash.chain_lengths(),
        ValueRef::ZSet(zset) => zset.chain_lengths(),
    };
    let lengths = lengths.ok_or(CommandError::fixed(
        "ERR The value stored at the specified key is not represented using an hash table",
    ))?;
    ctx.reply.verbatim("txt", describe_table(&lengths).as_bytes());
    Ok(SessionFlow::Done)
}

fn add_lengths(sum: &mut Vec<usize>, lengths: &[usize]) {
    if sum.len() < lengths.len() {
        sum.resize(lengths.len(), 0);
    }
    for (total, count) in sum.iter_mut().zip(lengths) {
        *total += count;
    }
}

/// `lengths` counts buckets by the number of their entries. A bucket has room for seven.
fn describe_table(lengths: &[usize]) -> String {
    let buckets: usize = lengths.iter().sum();
    let elements: usize = lengths.iter().enumerate().map(|(entries, count)| entries * count).sum();
    if elements == 0 {
        return "Hash table 0 stats (main hash table):\nNo stats available for empty dictionaries\n".into();
    }
    let used = buckets - lengths.first().copied().unwrap_or(0);
    let longest = lengths.len().saturating_sub(1);
    let mut text = format!(
        "Hash table 0 stats (main hash table):\n table size: {buckets}\n number of elements: {elements}\n different slots: {used}\n max chain length: {longest}\n avg chain length (counted): {:.2}\n avg chain length (computed): {:.2}\n Chain length distribution:\n",
        elements as f64 / used.max(1) as f64,
        elements as f64 / used.max(1) as f64,
    );
    for (entries, count) in lengths.iter().enumerate().filter(|(_, count)| **count > 0) {
        text.push_str(&format!("   {entries}: {count} ({:.2}%)\n", *count as f64 * 100.0 / buckets as f64));
    }
    text
}
