//! Tests over all declarations: the table itself, the documentation in config/, and the values of a stock server.

use super::*;

const REDIS_CONF: &str = include_str!("../../../config/redis.conf");
const RSREDIS_TOML: &str = include_str!("../../../config/rsredis.toml");

fn loader() -> Loader<'static> {
    Loader::new(false, Checks::default(), &|_, _| Ok(vec![]))
}

fn assert_defaults(loaded: &Loaded) {
    assert_eq!(loaded.problems, []);
    for param in PARAMS {
        assert!(param.same_in(&loaded.config, defaults()), "{}", param.name);
    }
}

fn printed(name: &str) -> String {
    let param = find_param(name.as_bytes()).unwrap_or_else(|| panic!("{name} is not declared"));
    String::from_utf8(param.print(defaults())).unwrap()
}

#[test]
fn names_are_unique_and_lower_case_and_documented() {
    let mut names: Vec<&str> = PARAMS.iter().flat_map(Param::names).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    for name in names {
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b'_')), "{name}");
    }
    for param in PARAMS {
        assert!(param.doc.ends_with('.') && !param.doc.contains('\n'), "{}", param.name);
    }
}

#[test]
fn every_default_is_read_back_from_its_own_text() {
    let mut loader = loader();
    for param in PARAMS {
        for line in param.lines(defaults()) {
            loader.read(None, &[param.name.as_bytes(), b" ", &line].concat());
        }
    }
    assert_defaults(&loader.finish());
}

#[test]
fn redis_conf_is_the_default_and_names_everything() {
    let mut as_it_is = loader();
    as_it_is.read(None, REDIS_CONF.as_bytes());
    assert_defaults(&as_it_is.finish());

    let shown: Vec<&str> = REDIS_CONF.lines().filter_map(|line| line.strip_prefix('#')).collect();
    for param in PARAMS {
        let is_shown = |line: &&str| line.split(' ').next() == Some(param.name);
        assert!(shown.iter().any(is_shown), "{} is not in config/redis.conf", param.name);
        for alias in param.aliases {
            assert!(REDIS_CONF.contains(alias), "{alias} is not in config/redis.conf");
        }
    }
}

/// What stands behind a `#` without a blank is the default, and correct.
#[test]
fn redis_conf_shows_the_true_defaults() {
    const EXAMPLES: [&str; 5] = ["include", "user", "rename-command", "sentinel", "io-threads"];
    let is_shown = |line: &str| {
        let name = line.split(' ').next().unwrap_or_default();
        // Values without a default are shown as empty texts, which not every one of them takes.
        !name.is_empty() && !name.starts_with('#') && !EXAMPLES.contains(&name) && name != "replicaof"
    };
    let shown: Vec<&str> =
        REDIS_CONF.lines().filter_map(|line| line.strip_prefix('#')).filter(|l| is_shown(l)).collect();
    assert!(shown.len() > 180);
    let mut uncommented = loader();
    uncommented.read(None, shown.join("\n").as_bytes());
    assert_defaults(&uncommented.finish());
}

#[test]
fn the_toml_twin_is_the_default() {
    let mut toml = loader();
    toml.read_toml("rsredis.toml", RSREDIS_TOML.as_bytes());
    assert_defaults(&toml.finish());
}

/// Taken from CONFIG GET of a stock 7.0.15; `every_name_and_value_of_a_stock_server` compares all.
#[test]
fn values_are_printed_as_redis_prints_them() {
    for (name, value) in [
        ("bind", "* -::*"),
        ("save", "3600 1 300 100 60 10000"),
        ("client-output-buffer-limit", "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60"),
        ("oom-score-adj-values", "0 200 800"),
        ("latency-tracking-info-percentiles", "50 99 99.9"),
        ("shutdown-on-sigterm", "default"),
        ("unixsocketperm", "0"),
        ("maxmemory-clients", "0"),
        ("proto-max-bulk-len", "536870912"),
        ("hash-max-ziplist-entries", "512"),
        ("slaveof", ""),
        ("requirepass", ""),
        ("notify-keyspace-events", ""),
        ("acl-pubsub-default", "resetchannels"),
        ("tls-auth-clients", "yes"),
        ("lua-time-limit", "5000"),
        ("server_cpulist", ""),
    ] {
        assert_eq!(printed(name), value, "{name}");
    }
}

/// Run by hand: `redis-cli config get '*' > stock.txt` at a stock server started with `--save "3600 1 300 100 60 10000"`, then
/// `STOCK_CONFIG=stock.txt cargo test --lib every_name -- --ignored`.
#[test]
#[ignore = "needs the output of CONFIG GET * of a stock server in the file named by STOCK_CONFIG"]
fn every_name_and_value_of_a_stock_server() {
    // Places, and our own choice of workers.
    const DIFFERENT: [&str; 3] = ["dir", "port", "io-threads"];
    let file = std::env::var("STOCK_CONFIG").expect("STOCK_CONFIG names a file");
    let text = std::fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let pairs: Vec<(&str, &str)> = lines.chunks(2).map(|pair| (pair[0], pair.get(1).copied().unwrap_or(""))).collect();
    assert!(pairs.len() > 180);
    for (name, value) in pairs.iter().filter(|(name, _)| !DIFFERENT.contains(name)) {
        assert_eq!(printed(name), *value, "{name}");
    }
    for name in PARAMS.iter().filter(|param| !param.is(Flags::HIDDEN)).flat_map(Param::names) {
        if !pairs.iter().any(|(known, _)| *known == name) {
            println!("not in the stock server: {name}");
        }
    }
}

/// CONFIG GET * given back to CONFIG SET changes nothing, as Redis's suite demands.
#[test]
fn every_value_got_can_be_set() {
    let config = Config { enable_protected_configs: ProtectedAction::Yes, ..Config::default() };
    let store = ConfigStore::new(config);
    let caller = Caller { is_local: true, loading: false };
    for (name, value) in store.get(&["*"]) {
        if find_param(&name).is_some_and(|param| param.is(Flags::IMMUTABLE)) {
            continue;
        }
        assert!(store.set(&[(&name, &value)], caller).is_ok(), "{}", String::from_utf8_lossy(&name));
        assert_eq!(store.get(&[&name]), [(name, value)]);
    }
}
