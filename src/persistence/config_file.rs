//! The configuration's files: read at start with all that they include, replaced by CONFIG REWRITE.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use crate::base::glob;
use crate::server::config::{Arguments, Checks, Config, Extra, Loaded, Loader, Problem, rewrite};

/// The problems of a configuration, without touching anything.
pub fn check(arguments: &Arguments, checks: Checks<'_>) -> Vec<Problem> {
    let mut loaded = read(arguments, checks);
    find_dir_problem(&mut loaded);
    loaded.problems
}

/// Reads the file, standard input and the options of the command line, in this order. All problems are in the result.
pub fn load(arguments: &Arguments, checks: Checks<'_>) -> Loaded {
    let mut loaded = read(arguments, checks);
    find_dir_problem(&mut loaded);
    find_log_problem(&mut loaded);
    loaded
}

fn read(arguments: &Arguments, checks: Checks<'_>) -> Loaded {
    let mut loader = Loader::new(arguments.is_sentinel, checks, &read_included);
    let mut unreadable = None;
    if let Some(file) = config_path(arguments) {
        unreadable = read_file(&mut loader, &file).err();
    }
    if arguments.from_stdin {
        let mut text = Vec::new();
        match io::stdin().lock().read_to_end(&mut text) {
            Ok(_) => loader.read(None, &text),
            Err(error) => unreadable = Some(problem(format!("can't read standard input: {}", reason(&error)))),
        }
    }
    loader.read_arguments(&arguments.options);
    let mut loaded = loader.finish();
    loaded.problems.splice(0..0, unreadable);
    loaded
}

/// The configuration file with its whole path, since the working directory will change.
pub fn config_path(arguments: &Arguments) -> Option<PathBuf> {
    let path = PathBuf::from(std::ffi::OsString::from_vec(arguments.config_file.clone()?));
    Some(std::path::absolute(&path).unwrap_or(path))
}

/// Enters the configured working directory and notes its whole path in `dir`, as CONFIG GET shows it.
pub fn enter_dir(config: &mut Config) -> Result<(), String> {
    std::env::set_current_dir(&config.dir).map_err(|error| reason(&error))?;
    let dir = std::env::current_dir().map_err(|error| reason(&error))?;
    config.dir = dir.to_string_lossy().into_owned();
    Ok(())
}

/// CONFIG REWRITE: a reader of the file sees the old text or the new one, also after a crash.
pub fn rewrite_file(file: &Path, config: &Config, extra: &Extra, force_all: bool) -> Result<(), String> {
    if is_toml(file) {
        return Err("a TOML configuration file is not rewritten; keep what is to change in redis.conf syntax".into());
    }
    let old = match fs::read(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        other => other.map_err(|error| reason(&error))?,
    };
    replace(file, &rewrite(&old, config, extra, force_all)).map_err(|error| reason(&error))
}

/// Replaces a file's content as a whole: written beside it, synced, renamed, the directory synced.
pub fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = file.as_os_str().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = PathBuf::from(name);
    let outcome = write_synced(&temporary, content).and_then(|()| fs::rename(&temporary, file));
    if outcome.is_err() {
        // The first error is the one to tell; a temporary file that stays behind does no harm.
        let _ = fs::remove_file(&temporary);
        return outcome;
    }
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(dir)?.sync_all()
}

fn write_synced(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn read_file(loader: &mut Loader, path: &Path) -> Result<(), Problem> {
    let text = fs::read(path)
        .map_err(|error| problem(format!("can't open config file '{}': {}", path.display(), reason(&error))))?;
    let name = path.to_string_lossy();
    if is_toml(path) {
        loader.read_toml(&name, &text)
    } else {
        loader.read(Some(&name), &text)
    }
    Ok(())
}

fn is_toml(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "toml")
}

/// The files of an include: one that must be there, or those that match a pattern, which may be none.
fn read_included(pattern: &str, dir: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let path = Path::new(dir).join(pattern);
    let paths = if pattern.contains(['*', '?', '[']) { matching_paths(&path) } else { vec![path] };
    let read = |path: PathBuf| {
        let name = path.to_string_lossy().into_owned();
        let text = fs::read(&path).map_err(|error| format!("can't open config file '{name}': {}", reason(&error)))?;
        Ok((name, text))
    };
    paths.into_iter().map(read).collect()
}

/// The paths that a pattern stands for, in the order of their names; `*` does not match a leading dot.
fn matching_paths(pattern: &Path) -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::new()];
    for component in pattern.components() {
        let Component::Normal(name) = component else {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        };
        let name = name.as_bytes();
        if !name.iter().any(|byte| b"*?[".contains(byte)) {
            paths.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        paths = paths.iter().flat_map(|dir| matching_entries(dir, name)).collect();
    }
    paths.retain(|path| path.is_file());
    paths.sort();
    paths
}

fn matching_entries(dir: &Path, pattern: &[u8]) -> Vec<PathBuf> {
    let place = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    let is_match = |name: &[u8]| name.starts_with(b".") == pattern.starts_with(b".") && glob::matches(pattern, name);
    entries.map(|entry| entry.file_name()).filter(|name| is_match(name.as_bytes())).map(|name| dir.join(name)).collect()
}

/// A directory that cannot be entered is told at the line that names it, before anything is started.
fn find_dir_problem(loaded: &mut Loaded) {
    let is_dir = fs::metadata(&loaded.config.dir).map(|found| found.is_dir());
    let error = match is_dir {
        Ok(true) => None,
        Ok(false) => Some(io::Error::from_raw_os_error(nix::libc::ENOTDIR)),
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        let place = loaded.place("dir").cloned();
        loaded.problems.push(Problem { place, reason: reason(&error) });
    }
}

/// A server without its log would be mute, so the file is opened once for trial.
fn find_log_problem(loaded: &mut Loaded) {
    if loaded.config.logfile.is_empty() {
        return;
    }
    let log = Path::new(&loaded.config.dir).join(&loaded.config.logfile);
    if let Err(error) = OpenOptions::new().append(true).create(true).open(log) {
        let reason = format!("Can't open the log file: {}", reason(&error));
        loaded.problems.push(Problem { place: loaded.place("logfile").cloned(), reason });
    }
}

fn problem(reason: String) -> Problem {
    Problem { place: None, reason }
}

/// The system's words for an error, without the number that Rust adds.
fn reason(error: &io::Error) -> String {
    error.raw_os_error().map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).desc().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::config::read_arguments;

    /// A directory of its own for one test, removed at the end.
    struct TestDir(PathBuf);

    impl TestDir {
        fn new(name: &str) -> TestDir {
            let dir = std::env::temp_dir().join(format!("rsredis-config-{name}-{}", std::process::id()));
            fs::create_dir_all(dir.join("conf.d")).unwrap();
            TestDir(dir)
        }

        fn write(&self, name: &str, text: &str) -> String {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            path.to_string_lossy().into_owned()
        }
    }

    impl Drop for TestDir {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn load_words(words: &[&str]) -> Loaded {
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        load(&read_arguments(b"redis-server", &words), Checks::default())
    }

    #[test]
    fn file_includes_and_options_in_their_order() {
        let dir = TestDir::new("load");
        dir.write("conf.d/b.conf", "hz 22\n");
        dir.write("conf.d/a.conf", "hz 11\nmaxclients 7\n");
        dir.write("conf.d/.hidden.conf", "hz 33\n");
        dir.write("extra.toml", "port = 7777\n");
        let here = dir.0.display();
        let main = format!("dir {here}\ninclude conf.d/*.conf\ninclude extra.toml\nmaxmemory 1mb\nlogfile log.txt\n");
        let main = dir.write("redis.conf", &main);
        let loaded = load_words(&[&main, "--maxmemory", "2mb"]);
        assert_eq!(loaded.problems, []);
        let config = loaded.config;
        assert_eq!((config.hz, config.maxclients, config.port, config.maxmemory), (22, 7, 7777, 2 << 20));
        assert!(dir.0.join("log.txt").is_file());
    }

    #[test]
    fn files_that_are_not_there() {
        let dir = TestDir::new("missing");
        let problems = load_words(&["/nonexistent/x.conf"]).problems;
        assert_eq!(problems[0].reason, "can't open config file '/nonexistent/x.conf': No such file or directory");
        let main = dir.write("redis.conf", "include /nonexistent/y.conf\ndir /nonexistent\n");
        let lines: Vec<String> = load_words(&[&main]).problems.iter().map(Problem::to_string).collect();
        assert_eq!(
            lines,
            [
                format!(
                    "{main}:1: 'include /nonexistent/y.conf': can't open config file '/nonexistent/y.conf': No such file or directory"
                ),
                format!("{main}:2: 'dir /nonexistent': No such file or directory"),
            ]
        );
    }

    #[test]
    fn a_rewritten_file_is_whole_and_read_back() {
        let dir = TestDir::new("rewrite");
        let main = dir.write("redis.conf", "# mine\nmaxclients 10\n");
        let mut config = load_words(&[&main]).config;
        config.maxclients = 20;
        rewrite_file(Path::new(&main), &config, &Extra::default(), false).unwrap();
        let text = fs::read_to_string(&main).unwrap();
        assert!(text.starts_with("# mine\nmaxclients 20\n"), "{text}");
        assert_eq!(load_words(&[&main]).config.maxclients, 20);
        let left: Vec<_> = fs::read_dir(&dir.0).unwrap().flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
        assert!(rewrite_file(Path::new("/nonexistent/x.conf"), &config, &Extra::default(), false).is_err());
    }

    /// The cases of unit/introspection, "redis-server command line arguments - error cases".
    #[test]
    fn faults_of_the_command_line() {
        for (words, directive, reason) in [
            (&["--port"][..], "'port'", "wrong number of arguments"),
            (&["--port", "6380", "--loglevel"], "'loglevel'", "wrong number of arguments"),
            (&["--port", "6379", "6380"], r#"'port "6379" "6380"'"#, "wrong number of arguments"),
            (&["--port", "--loglevel", "verbose"], r#"'port "--loglevel" "verbose"'"#, "wrong number of arguments"),
            (
                &["--port", "--bla", "--loglevel", "verbose"],
                r#"'port "--bla"'"#,
                "argument couldn't be parsed into an integer",
            ),
            (
                &["--logfile", "", "--loglevel", "--bla"],
                r#"'loglevel "--bla"'"#,
                "argument(s) must be one of the following",
            ),
            (&["--shutdown-on-sigint"], "'shutdown-on-sigint'", "argument(s) must be one of the following"),
            (
                &["--shutdown-on-sigint", "now force", "--shutdown-on-sigterm"],
                "'shutdown-on-sigterm'",
                "argument(s) must be",
            ),
            (&["--replicaof", "127.0.0.1", "abc"], r#"'replicaof "127.0.0.1" "abc"'"#, "Invalid master port"),
            (&["--replicaof", "--127.0.0.1", "abc"], r#"'replicaof "--127.0.0.1" "abc"'"#, "Invalid master port"),
            (&["--replicaof", "--127.0.0.1", "--abc"], r#"'replicaof "--127.0.0.1"'"#, "wrong number of arguments"),
            (&["--user", "foo", "--user", "foo"], r#"'user "foo"'"#, "Duplicate user"),
        ] {
            let text = load_words(words).problems.first().map(Problem::fatal_text).unwrap_or_default();
            assert!(
                text.contains("at line ") && text.contains(directive) && text.contains(reason),
                "{words:?}: {text}"
            );
        }
    }
}
