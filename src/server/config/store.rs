//! The configuration in use: read by everybody at any time, changed by CONFIG SET as a whole or not at all.
//!
//! Workers keep an `Arc<Config>` and compare `generation` once per batch: one relaxed load where nothing changed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::Mutex;

use super::{Config, Flags, PARAMS, Param, find_param};
use crate::base::glob;
use crate::commands::error::{self, CommandError};

/// Makes a change real (binds a port, changes the directory) or refuses it with a reason. It sees the settings before and after; it
/// may put a value into its final form. On an error of a later hook it is called again with both the other way round.
pub type ApplyHook = Box<dyn Fn(&Config, &mut Config) -> Result<(), String> + Send + Sync>;

/// Told after a change is visible to all; cannot refuse.
pub type ChangedHook = Box<dyn Fn(&Config, &Config) + Send + Sync>;

/// Writes the configuration file anew; with `true` every directive goes into it. `boot` supplies it, since files are not of this room.
pub type Rewriter = Box<dyn Fn(&Config, bool) -> Result<(), String> + Send + Sync>;

pub struct ConfigStore {
    current: ArcSwap<Config>,
    generation: AtomicU64,
    /// Held while a change is prepared and applied: changes come one after another.
    hooks: Mutex<Hooks>,
    rewriter: OnceLock<Rewriter>,
}

#[derive(Default)]
struct Hooks {
    apply: Vec<(&'static [&'static str], ApplyHook)>,
    changed: Vec<(&'static [&'static str], ChangedHook)>,
}

/// Who asks for a change.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Connected from this machine, for `enable-protected-configs local`.
    pub is_local: bool,
    /// A dataset is being loaded.
    pub loading: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum SetError {
    /// Some directives wait until the dataset is loaded.
    Loading,
    Unknown(Vec<u8>),
    Failed {
        name: String,
        reason: String,
    },
}

impl SetError {
    /// As it goes to the client.
    pub fn reply(&self) -> CommandError {
        match self {
            SetError::Loading => error::LOADING,
            SetError::Unknown(name) => {
                CommandError::joined(&[b"ERR Unknown option or number of arguments for CONFIG SET - '", name, b"'"])
            }
            SetError::Failed { name, reason } => {
                CommandError::new(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"))
            }
        }
    }
}

impl ConfigStore {
    pub fn new(mut config: Config) -> ConfigStore {
        config.settle();
        ConfigStore {
            current: ArcSwap::from_pointee(config),
            generation: AtomicU64::new(0),
            hooks: Mutex::new(Hooks::default()),
            rewriter: OnceLock::new(),
        }
    }

    pub fn current(&self) -> Arc<Config> {
        self.current.load_full()
    }

    /// Changes whenever `current` does.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Registers what has to happen before a change of one of these directives counts.
    pub fn on_apply(&self, names: &'static [&'static str], hook: ApplyHook) {
        self.hooks.lock().apply.push((names, hook));
    }

    /// Registers what has to happen after a change of one of these directives.
    pub fn on_changed(&self, names: &'static [&'static str], hook: ChangedHook) {
        self.hooks.lock().changed.push((names, hook));
    }

    /// Says how CONFIG REWRITE reaches the file.
    pub fn rewrite_with(&self, rewriter: Rewriter) {
        // Set once, by `boot`.
        let _ = self.rewriter.set(rewriter);
    }

    /// CONFIG REWRITE with the settings of a moment, one at a time and not while a change is under way.
    pub fn rewrite(&self, config: &Config, force_all: bool) -> Result<(), String> {
        let _one_at_a_time = self.hooks.lock();
        let rewriter = self.rewriter.get().ok_or("nothing here writes files")?;
        rewriter(config, force_all)
    }

    /// CONFIG SET: all pairs or none. Returns the names of the directives whose value changed.
    pub fn set<N: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        pairs: &[(N, V)],
        caller: Caller,
    ) -> Result<Vec<&'static str>, SetError> {
        let hooks = self.hooks.lock();
        let old = self.current();
        let params = find_all(pairs, &old, caller)?;

        let mut new = Config::clone(&old);
        for (param, (name, value)) in params.iter().zip(pairs) {
            let words = words_of(param, value.as_ref());
            // An alias goes by its own name.
            let name = param.names().find(|known| known.as_bytes().eq_ignore_ascii_case(name.as_ref()));
            param.assign(&mut new, &words).map_err(|reason| failed(name.unwrap_or(param.name), reason))?;
        }
        refuse_unsupported(&old, &new).map_err(|(name, reason)| failed(name, reason))?;
        new.settle();

        let is_changed = |param: &&&Param| !param.same_in(&old, &new) || param.is(Flags::VOLATILE);
        let changed: Vec<&'static str> = params.iter().filter(is_changed).map(|param| param.name).collect();
        apply(&hooks.apply, &changed, &old, &mut new)?;
        self.publish(new);
        let new = self.current();
        for (names, hook) in &hooks.changed {
            if names.iter().any(|name| changed.contains(name)) {
                hook(&old, &new);
            }
        }
        Ok(changed)
    }

    /// Changes settings on the server's own account (REPLICAOF, the resolved `dir`): no checks, no hooks.
    pub fn update(&self, change: impl FnOnce(&mut Config)) {
        let _one_at_a_time = self.hooks.lock();
        let mut new = Config::clone(&self.current());
        change(&mut new);
        new.settle();
        self.publish(new);
    }

    fn publish(&self, config: Config) {
        self.current.store(Arc::new(config));
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// CONFIG GET: names and values, each name once. A name asked for exactly comes back as it was written.
    pub fn get<P: AsRef<[u8]>>(&self, patterns: &[P]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let config = self.current();
        let mut found: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut add = |name: &[u8], param: &Param| {
            if !found.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                found.push((name.to_vec(), param.print(&config)));
            }
        };
        for pattern in patterns {
            let pattern = pattern.as_ref();
            if !pattern.iter().any(|byte| b"[*?".contains(byte)) {
                if let Some(param) = find_param(pattern) {
                    add(pattern, param);
                }
                continue;
            }
            for param in PARAMS.iter().filter(|param| !param.is(Flags::HIDDEN)) {
                for name in param.names().filter(|name| glob::matches_ignoring_case(pattern, name.as_bytes())) {
                    add(name.as_bytes(), param);
                }
            }
        }
        found
    }
}

/// The directives of the pairs, unless one is unknown, closed to the caller or named twice. The first fault counts.
fn find_all<N: AsRef<[u8]>, V>(
    pairs: &[(N, V)],
    config: &Config,
    caller: Caller,
) -> Result<Vec<&'static Param>, SetError> {
    let mut params: Vec<&'static Param> = Vec::with_capacity(pairs.len());
    for (name, _) in pairs {
        let name = name.as_ref();
        let Some(param) = find_param(name) else { return Err(SetError::Unknown(name.to_vec())) };
        let name = String::from_utf8_lossy(name);
        if param.is(Flags::IMMUTABLE) {
            return Err(failed(&name, "can't set immutable config".into()));
        }
        if param.is(Flags::PROTECTED) && !config.enable_protected_configs.allows(caller.is_local) {
            return Err(failed(&name, "can't set protected config".into()));
        }
        if param.is(Flags::DENY_LOADING) && caller.loading {
            return Err(SetError::Loading);
        }
        if params.iter().any(|known| std::ptr::eq(*known, param)) {
            return Err(failed(&name, "duplicate parameter".into()));
        }
        params.push(param);
    }
    Ok(params)
}

fn failed(name: &str, reason: String) -> SetError {
    SetError::Failed { name: name.into(), reason }
}

/// A value of many words comes as one argument, cut at single spaces, as Redis does here (and only here: no quotes).
fn words_of(param: &Param, value: &[u8]) -> Vec<Vec<u8>> {
    if !param.is(Flags::MULTI_ARG) {
        return vec![value.to_vec()];
    }
    if value.is_empty() {
        return Vec::new();
    }
    value.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect()
}

/// A file written for another build of Redis may ask for defragmentation and is not refused for it; who asks at run time shall know.
fn refuse_unsupported(old: &Config, new: &Config) -> Result<(), (&'static str, String)> {
    if new.activedefrag && !old.activedefrag {
        let reason = "Active defragmentation cannot be enabled: it requires a Redis server compiled with a modified Jemalloc \
                      like the one shipped by default with the Redis source distribution";
        return Err(("activedefrag", reason.into()));
    }
    Ok(())
}

/// Runs the hooks of the changed directives, in the order in which the caller named them; on a refusal undoes those that ran.
fn apply(
    hooks: &[(&'static [&'static str], ApplyHook)],
    changed: &[&'static str],
    old: &Config,
    new: &mut Config,
) -> Result<(), SetError> {
    let mut done: Vec<usize> = Vec::new();
    for name in changed {
        for (at, (names, hook)) in hooks.iter().enumerate() {
            if !names.contains(name) || done.contains(&at) {
                continue;
            }
            done.push(at);
            if let Err(reason) = hook(old, new) {
                let mut back = old.clone();
                for at in done.into_iter().rev() {
                    // What cannot be undone is left as it is; the hook itself has logged why.
                    let _ = hooks.get(at).map(|(_, hook)| hook(new, &mut back));
                }
                return Err(failed(name, reason));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const LOCAL: Caller = Caller { is_local: true, loading: false };

    fn set(store: &ConfigStore, pairs: &[(&str, &str)]) -> Result<Vec<&'static str>, String> {
        store.set(pairs, LOCAL).map_err(|error| error.reply().text().into_owned())
    }

    fn get(store: &ConfigStore, name: &str) -> String {
        store.get(&[name]).into_iter().map(|(_, value)| String::from_utf8_lossy(&value).into_owned()).collect()
    }

    #[test]
    fn many_pairs_are_set_together_or_not_at_all() {
        let store = ConfigStore::new(Config::default());
        let before = store.generation();
        let changed = set(&store, &[("MaxMemory", "10mb"), ("save", "3000 5"), ("maxmemory-samples", "5")]);
        assert_eq!(changed.unwrap(), ["maxmemory", "save"]);
        assert_ne!(store.generation(), before);
        assert_eq!(get(&store, "maxmemory"), "10485760");
        assert_eq!(get(&store, "save"), "3000 5");

        let error = set(&store, &[("maxmemory", "1"), ("maxmemory-clients", "200%")]).unwrap_err();
        assert_eq!(
            error,
            "ERR CONFIG SET failed (possibly related to argument 'maxmemory-clients') - percentage argument must be less or equal to 100"
        );
        assert_eq!(store.current().maxmemory, 10 << 20);
    }

    #[test]
    fn refusals_have_the_texts_of_redis() {
        let store = ConfigStore::new(Config::default());
        let failed = |name: &str, reason: &str| {
            Err(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"))
        };
        for (pairs, expected) in [
            (&[("maxmemory", "x")][..], failed("maxmemory", "argument must be a memory value")),
            (&[("daemonize", "yes")], failed("daemonize", "can't set immutable config")),
            (&[("dir", "/")], failed("dir", "can't set protected config")),
            (&[("hz", "5"), ("HZ", "6")], failed("HZ", "duplicate parameter")),
            (&[("slave-priority", "1"), ("replica-priority", "2")], failed("replica-priority", "duplicate parameter")),
            (&[("SLAVE-read-only", "x")], failed("slave-read-only", "argument must be 'yes' or 'no'")),
            (&[("x", "y")], Err("ERR Unknown option or number of arguments for CONFIG SET - 'x'".into())),
            (&[("save", "900")], failed("save", "Invalid save parameters")),
            (
                &[("client-output-buffer-limit", "master 0 0 0")],
                failed("client-output-buffer-limit", "Invalid client class specified in buffer limit configuration."),
            ),
        ] {
            assert_eq!(set(&store, pairs).map(|_| ()), expected, "{pairs:?}");
        }
        let loading = Caller { is_local: true, loading: true };
        assert_eq!(store.set(&[("appendonly", "yes")], loading), Err(SetError::Loading));
        assert!(store.set(&[("loglevel", "debug")], loading).is_ok());
    }

    #[test]
    fn protected_directives_open_for_local_clients() {
        let config = Config { enable_protected_configs: super::super::ProtectedAction::Local, ..Config::default() };
        let store = ConfigStore::new(config);
        assert!(store.set(&[("dbfilename", "x.rdb")], LOCAL).is_ok());
        assert!(store.set(&[("dbfilename", "y.rdb")], Caller { is_local: false, ..LOCAL }).is_err());
    }

    #[test]
    fn a_refusing_hook_undoes_the_earlier_ones() {
        let store = ConfigStore::new(Config::default());
        static LAST_SEEN: AtomicUsize = AtomicUsize::new(0);
        let remember = |_: &Config, new: &mut Config| {
            LAST_SEEN.store(new.maxclients as usize, Ordering::Relaxed);
            Ok(())
        };
        store.on_apply(&["maxclients"], Box::new(remember));
        store.on_apply(&["port"], Box::new(|_, _| Err("Unable to listen on this port. Check server logs.".into())));
        let error = set(&store, &[("maxclients", "77"), ("port", "1")]).unwrap_err();
        assert!(error.contains("'port') - Unable to listen on this port"), "{error}");
        assert_eq!(LAST_SEEN.load(Ordering::Relaxed), 10000);
        assert_eq!(store.current().maxclients, 10000);
        set(&store, &[("maxclients", "78")]).unwrap();
        assert_eq!((LAST_SEEN.load(Ordering::Relaxed), store.current().maxclients), (78, 78));
    }

    #[test]
    fn get_takes_many_patterns_and_hides_the_hidden() {
        let store = ConfigStore::new(Config::default());
        let names = |patterns: &[&str]| -> Vec<String> {
            store.get(patterns).into_iter().map(|(name, _)| String::from_utf8_lossy(&name).into_owned()).collect()
        };
        let found = names(&["maxmemory", "maxmemory*", "bind", "*of"]);
        for name in ["maxmemory", "maxmemory-samples", "bind", "slaveof", "replicaof"] {
            assert_eq!(found.iter().filter(|found| *found == name).count(), 1, "{name}");
        }
        assert!(!names(&["*"]).contains(&"key-load-delay".to_string()));
        assert_eq!(names(&["key-load-delay"]), ["key-load-delay"]);
        assert_eq!(names(&["HZ"]), ["HZ"]);
        assert_eq!(names(&["nothing"]), [""; 0]);
    }

    #[test]
    fn values_are_cut_and_limits_follow() {
        let store = ConfigStore::new(Config::default());
        set(&store, &[("hz", "10000"), ("hash-max-ziplist-entries", "7")]).unwrap();
        assert_eq!(get(&store, "hz"), "500");
        assert_eq!(store.current().limits.hash_max_listpack_entries, 7);
    }
}
