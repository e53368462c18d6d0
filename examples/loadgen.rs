//! A closed-loop load generator: prepared batches out, replies counted, and what the server's process spent on each.
//!
//! ```text
//! loadgen --port 6379 [--pid PID] [--conns 50] [--pipeline 16] [--seconds 5] [--keys 1000000] [--size 64] [--mix get:80,set:20] [--skewed]
//! loadgen --port 6379 [--pid PID] --load string|int|ttl|hash10|bighash|zset|set|list|stream [--keys N] [--size 64]
//! ```
//! One line of JSON comes out. CPU per operation (user and system time of PID from /proc, in ticks of 10 ms, so runs of
//! seconds) is the figure to compare: client and server share the machine, so throughput says less.

use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Distinct batches that are prepared; connections pick among them.
const BATCHES: usize = 2048;

struct Options {
    words: HashMap<String, String>,
}

impl Options {
    fn parse() -> Options {
        let mut words = HashMap::new();
        let mut args = std::env::args().skip(1).peekable();
        while let Some(name) = args.next() {
            let Some(name) = name.strip_prefix("--") else { usage(&name) };
            let value = args.next_if(|next| !next.starts_with("--")).unwrap_or_else(|| "yes".into());
            words.insert(name.to_string(), value);
        }
        Options { words }
    }

    fn number(&self, name: &str, default: usize) -> usize {
        self.words.get(name).map_or(default, |text| text.parse().unwrap_or_else(|_| usage(text)))
    }

    fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.words.get(name).map_or(default, String::as_str)
    }
}

fn usage(word: &str) -> ! {
    eprintln!("loadgen: cannot use {word:?}; see the head of examples/loadgen.rs");
    std::process::exit(2);
}

/// xorshift: fast, and the same sequence for every server.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    /// Four of five accesses go to the hottest fifth, again and again.
    fn skewed(&mut self, bound: usize) -> usize {
        let mut range = bound;
        while range > 16 && self.below(5) > 0 {
            range = range / 5 + 1;
        }
        ((self.below(range) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20) as usize % bound
    }
}

struct Workload {
    keys: usize,
    value: String,
    skewed: bool,
}

impl Workload {
    fn pick(&self, random: &mut Random) -> usize {
        if self.skewed { random.skewed(self.keys) } else { random.below(self.keys) }
    }

    fn command(&self, op: &str, random: &mut Random, out: &mut Vec<u8>) {
        let id = self.pick(random);
        let key = format!("key:{id:012}");
        let member = format!("el:{id:012}");
        let value = self.value.as_str();
        match op {
            "ping" => push(out, &["PING"]),
            "get" => push(out, &["GET", &key]),
            "set" => push(out, &["SET", &key, value]),
            "incr" => push(out, &["INCR", &format!("cnt:{id:012}")]),
            "expire" => push(out, &["EXPIRE", &key, "1000"]),
            "lpush" => push(out, &["LPUSH", "mylist", value]),
            "rpop" => push(out, &["RPOP", "mylist"]),
            "lrange100" => push(out, &["LRANGE", "mylist", "0", "99"]),
            "sadd" => push(out, &["SADD", "myset", &member]),
            "hset" => push(out, &["HSET", "myhash", &member, value]),
            "hget" => push(out, &["HGET", "myhash", &member]),
            "zadd" => push(out, &["ZADD", "myzset", &random.below(1_000_000).to_string(), &member]),
            "zscore" => push(out, &["ZSCORE", "myzset", &member]),
            "zrank" => push(out, &["ZRANK", "myzset", &member]),
            "xadd" => push(out, &["XADD", "mystream", "*", "f", value]),
            "eval" => push(out, &["EVAL", "return redis.call('set',KEYS[1],ARGV[1])", "1", &key, value]),
            "mget10" | "mset10" => {
                let keys: Vec<String> = (0..10).map(|_| format!("key:{:012}", self.pick(random))).collect();
                let mut words = vec![if op == "mget10" { "MGET" } else { "MSET" }];
                for key in &keys {
                    words.push(key);
                    words.extend((op == "mset10").then_some(value));
                }
                push(out, &words);
            }
            other => usage(other),
        }
    }

    /// The commands that write item `number` of a data set for the memory table.
    fn load(&self, kind: &str, number: usize, out: &mut Vec<u8>) {
        let key = format!("key:{number:012}");
        match kind {
            "string" => push(out, &["SET", &key, &self.value]),
            "int" => push(out, &["SET", &key, &(10_000 + number).to_string()]),
            "ttl" => push(out, &["SET", &key, &self.value, "EX", "100000"]),
            "hash10" => {
                push(out, &["HSET", &format!("h:{:012}", number / 10), &format!("f{}", number % 10), "0123456789abcde"])
            }
            "bighash" => push(out, &["HSET", "big", &format!("f:{number:013}"), "0123456789abcde"]),
            "zset" => push(out, &["ZADD", "big", &(number * 7919 % 1_000_003).to_string(), &key]),
            "set" => push(out, &["SADD", "big", &key]),
            "list" => push(out, &["RPUSH", "big", &format!("el:{number:014}")]),
            "stream" => push(out, &["XADD", "big", "*", "a", "12345678", "b", "12345678"]),
            other => usage(other),
        }
    }
}

fn push(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

/// Counts whole replies in a stream without keeping them.
#[derive(Default)]
struct ReplyCounter {
    line: Vec<u8>,
    skip: usize,
    open: usize,
    errors: u64,
}

impl ReplyCounter {
    fn feed(&mut self, mut bytes: &[u8]) -> usize {
        let mut whole = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let count = self.skip.min(bytes.len());
                self.skip -= count;
                bytes = &bytes[count..];
                if self.skip == 0 {
                    whole += self.close_one();
                }
                continue;
            }
            let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                self.line.extend_from_slice(bytes);
                break;
            };
            self.line.extend_from_slice(&bytes[..end]);
            bytes = &bytes[end + 1..];
            whole += self.header();
            self.line.clear();
        }
        whole
    }

    fn header(&mut self) -> usize {
        let kind = self.line.first().copied().unwrap_or(b' ');
        let number = std::str::from_utf8(&self.line[1.min(self.line.len())..])
            .unwrap_or("")
            .trim_end()
            .parse::<i64>()
            .unwrap_or(0);
        match kind {
            b'-' => self.errors += 1,
            b'$' if number >= 0 => {
                self.skip = number as usize + 2;
                return 0;
            }
            b'*' if number > 0 => {
                self.open = self.open.saturating_sub(1) + number as usize;
                return 0;
            }
            _ => {}
        }
        self.close_one()
    }

    fn close_one(&mut self) -> usize {
        self.open = self.open.saturating_sub(1);
        usize::from(self.open == 0)
    }
}

#[derive(Default)]
struct Tally {
    operations: u64,
    errors: u64,
    /// Batch latencies in microseconds.
    latencies: Vec<u32>,
}

async fn connection(
    port: u16,
    batches: Rc<Vec<Vec<u8>>>,
    pipeline: usize,
    seed: u64,
    end: Instant,
) -> io::Result<Tally> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let (mut random, mut counter, mut tally) = (Random(seed), ReplyCounter::default(), Tally::default());
    let mut chunk = vec![0; 64 * 1024];
    while Instant::now() < end {
        let started = Instant::now();
        stream.write_all(&batches[random.below(batches.len())]).await?;
        let mut left = pipeline;
        while left > 0 {
            let count = stream.read(&mut chunk).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= counter.feed(&chunk[..count]).min(left);
        }
        tally.operations += pipeline as u64;
        tally.latencies.push(started.elapsed().as_micros() as u32);
    }
    tally.errors = counter.errors;
    Ok(tally)
}

/// User and system time of a process, in microseconds.
fn cpu_us(pid: usize) -> f64 {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return 0.0 };
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<f64>().ok()).unwrap_or(0.0);
    // utime and stime, counted from the state field; a tick is 10 ms on every Linux that matters here.
    (ticks(11) + ticks(12)) * 10_000.0
}

fn rss_kb(pid: usize) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn prepared(workload: &Workload, mix: &str, pipeline: usize) -> Vec<Vec<u8>> {
    let shares: Vec<(&str, usize)> = mix
        .split(',')
        .map(|part| {
            part.split_once(':').map_or((part, 1), |(op, share)| (op, share.parse().unwrap_or_else(|_| usage(part))))
        })
        .collect();
    let total: usize = shares.iter().map(|(_, share)| share).sum();
    let mut random = Random(0x1234_5678_9abc);
    let one = |random: &mut Random| {
        let mut batch = Vec::new();
        for _ in 0..pipeline {
            let mut place = random.below(total);
            let op = shares.iter().find(|(_, share)| {
                place < *share || {
                    place -= share;
                    false
                }
            });
            workload.command(op.map_or("ping", |(op, _)| op), random, &mut batch);
        }
        batch
    };
    (0..BATCHES).map(|_| one(&mut random)).collect()
}

async fn measure(options: &Options, port: u16, pid: usize, workload: &Workload) -> io::Result<String> {
    let (conns, pipeline) = (options.number("conns", 50), options.number("pipeline", 16));
    let mix = options.text("mix", "get");
    let batches = Rc::new(prepared(workload, mix, pipeline));
    let seconds = options.text("seconds", "5").parse::<f64>().unwrap_or(5.0);
    let (before, started) = (cpu_us(pid), Instant::now());
    let end = started + Duration::from_secs_f64(seconds);
    let tasks: Vec<_> = (0..conns)
        .map(|number| {
            tokio::task::spawn_local(connection(port, batches.clone(), pipeline, 77 + 7919 * number as u64, end))
        })
        .collect();
    let mut all = Tally::default();
    for task in tasks {
        let tally = task.await.map_err(io::Error::other)??;
        all.operations += tally.operations;
        all.errors += tally.errors;
        all.latencies.extend(tally.latencies);
    }
    let (spent, elapsed) = (cpu_us(pid) - before, started.elapsed().as_secs_f64());
    all.latencies.sort_unstable();
    let at = |share: f64| all.latencies.get((share * (all.latencies.len() - 1) as f64) as usize).copied().unwrap_or(0);
    Ok(format!(
        "{{\"mix\":\"{mix}\",\"conns\":{conns},\"pipeline\":{pipeline},\"ops\":{},\"ops_s\":{:.0},\"p50_us\":{},\"p99_us\":{},\"p999_us\":{},\"max_us\":{},\"errors\":{},\"cpu_us_op\":{:.4},\"rss_kb\":{}}}",
        all.operations,
        all.operations as f64 / elapsed,
        at(0.5),
        at(0.99),
        at(0.999),
        at(1.0),
        all.errors,
        spent / all.operations.max(1) as f64,
        rss_kb(pid)
    ))
}

async fn load(options: &Options, port: u16, pid: usize, workload: &Workload) -> io::Result<String> {
    let kind = options.text("load", "string");
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut counter = ReplyCounter::default();
    let mut chunk = vec![0; 64 * 1024];
    let before = rss_kb(pid);
    let mut number = 0;
    while number < workload.keys {
        let mut batch = Vec::new();
        let first = number;
        while number < workload.keys && number - first < 1000 {
            workload.load(kind, number, &mut batch);
            number += 1;
        }
        stream.write_all(&batch).await?;
        let mut left = number - first;
        while left > 0 {
            let count = stream.read(&mut chunk).await?;
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            left -= counter.feed(&chunk[..count]).min(left);
        }
    }
    let after = rss_kb(pid);
    Ok(format!(
        "{{\"load\":\"{kind}\",\"keys\":{},\"errors\":{},\"rss_kb_before\":{before},\"rss_kb\":{after},\"bytes_per_item\":{:.1}}}",
        workload.keys,
        counter.errors,
        after.saturating_sub(before) as f64 * 1024.0 / workload.keys.max(1) as f64
    ))
}

fn main() -> io::Result<()> {
    let options = Options::parse();
    let port = u16::try_from(options.number("port", 6379)).unwrap_or_else(|_| usage("port"));
    let pid = options.number("pid", 0);
    let size = options.number("size", 64);
    let value: String = (0..size).map(|place| char::from(b'a' + (place % 26) as u8)).collect();
    let workload =
        Workload { keys: options.number("keys", 1_000_000), value, skewed: options.words.contains_key("skewed") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = tokio::task::LocalSet::new();
    let line = local.block_on(&runtime, async {
        if options.words.contains_key("load") {
            load(&options, port, pid, &workload).await
        } else {
            measure(&options, port, pid, &workload).await
        }
    })?;
    println!("{line}");
    Ok(())
}
