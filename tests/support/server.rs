//! The real server binary as a child process: a free port, a directory of its own, readiness, stop, kill, log.
//!
//! `RSREDIS_SERVER` names the binary; without it the one that cargo built for this test. So the same tests run against
//! a stock redis-server, which is how their expectations were checked.

use super::Client;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// How long a start may take: generous, because CI machines are slow and a hang shows anyway.
const START_LIMIT: Duration = Duration::from_secs(30);

pub struct Server {
    child: Child,
    binary: PathBuf,
    port: u16,
    dir: PathBuf,
    args: Vec<String>,
}

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("RSREDIS_SERVER").map_or_else(
        || env!("CARGO_BIN_EXE_rsredis-server").into(),
        |path| {
            let path = PathBuf::from(path);
            // Tests start in the package root, servers in a directory of their own.
            if path.components().count() > 1 { std::path::absolute(&path).unwrap_or(path) } else { path }
        },
    )
}

/// Whether the binary under test is a stock server: tests of what only rsredis has leave it out.
pub fn is_stock() -> bool {
    binary().file_name().is_some_and(|name| name == "redis-server")
}

/// Below the ports that the system gives to outgoing connections.
const PORTS: std::ops::Range<u16> = 22_000..32_000;

/// A port that nobody listens on now, and that belongs to this process until it ends: tests run at the same time, and a server that is
/// killed and started again must find its port free, not the clients of another test at it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let claims = std::env::temp_dir().join("rsredis-test-ports");
    std::fs::create_dir_all(&claims).expect("a directory");
    let first = (std::process::id() as u16).wrapping_mul(37) % PORTS.len() as u16;
    loop {
        let offset = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(usize::from(offset) < PORTS.len(), "no port is free");
        let port = PORTS.start + (first + offset) % PORTS.len() as u16;
        let claim = std::fs::File::create(claims.join(port.to_string())).expect("a file");
        if claim.try_lock().is_ok() && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            // Held to the end of the process.
            std::mem::forget(claim);
            return port;
        }
    }
}

impl Server {
    /// Starts the server with these arguments after the defaults of the tests (no save points, DEBUG allowed).
    pub fn start(args: &[&str]) -> Server {
        Server::start_as(&binary(), args)
    }

    /// The same with a stock redis-server, for tests of two servers.
    pub fn start_stock(args: &[&str]) -> Server {
        Server::start_as(Path::new("redis-server"), args)
    }

    fn start_as(binary: &Path, args: &[&str]) -> Server {
        let dir = std::env::temp_dir().join(format!(
            "rsredis-test-{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        ));
        fs::create_dir_all(&dir).expect("a temporary directory");
        let args: Vec<String> = args.iter().map(|word| word.to_string()).collect();
        for _ in 0..5 {
            let port = free_port();
            let child = spawn(binary, &dir, port, &args);
            let mut server = Server { child, binary: binary.into(), port, dir: dir.clone(), args: args.clone() };
            match server.await_ready() {
                Ok(()) => return server,
                Err(()) if server.log().contains("Address already in use") => std::mem::forget(server),
                Err(()) => panic!("the server did not start: {}\n{}", binary.display(), server.log()),
            }
        }
        panic!("no free port in five tries");
    }

    /// Starts the server on the directory of another that has ended; the directory goes with whichever is dropped last.
    pub fn start_in(dir: &Path, args: &[&str]) -> Server {
        let args: Vec<String> = args.iter().map(|word| word.to_string()).collect();
        let port = free_port();
        let binary = binary();
        let child = spawn(&binary, dir, port, &args);
        let mut server = Server { child, binary, port, dir: dir.to_owned(), args };
        if server.await_ready().is_err() {
            panic!("the server did not start: {}", server.log());
        }
        server
    }

    /// Starts the binary with exactly these arguments and waits for its exit: for tests of refused starts.
    pub fn run(args: &[&str], stdin: &str) -> (ExitStatus, String) {
        use std::io::Write;
        let mut child = Command::new(binary())
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server binary");
        child.stdin.take().expect("piped").write_all(stdin.as_bytes()).ok();
        let output = child.wait_with_output().expect("the server's exit");
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        (output.status, text)
    }

    fn await_ready(&mut self) -> Result<(), ()> {
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return Err(());
            }
            if let Ok(mut client) = Client::connect(self.port) {
                match client.try_call(&["PING"]) {
                    Ok(reply) if !reply.is_error("LOADING") => return Ok(()),
                    _ => {}
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|error| panic!("cannot connect: {error}\n{}", self.log()))
    }

    /// A client that has switched to RESP3.
    pub fn client3(&self) -> Client {
        let mut client = self.client();
        let hello = client.call(&["HELLO", "3"]);
        assert!(matches!(hello, super::Reply::Map(_)), "HELLO 3: {hello:?}");
        client
    }

    /// All that the server has logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join("log")).unwrap_or_default()).into_owned()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).ok();
    }

    /// The power cut.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// SIGTERM, and the exit status that follows.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.await_exit()
    }

    pub fn await_exit(&mut self) -> ExitStatus {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return status,
                _ if Instant::now() > deadline => panic!("the server did not exit\n{}", self.log()),
                _ => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Starts again on the same port and directory, with the same arguments.
    pub fn restart(&mut self) {
        self.kill();
        self.child = spawn(&self.binary, &self.dir, self.port, &self.args);
        if self.await_ready().is_err() {
            panic!("the server did not start again\n{}", self.log());
        }
    }

    /// Resident memory of the process, in bytes.
    pub fn rss(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("the process is alive");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|number| number.parse::<u64>().ok()).expect("kB") * 1024
    }

    /// One field of INFO; empty when the server has no such field, or cuts the connection (as Sentinel makes it do).
    pub fn info(&self, field: &str) -> String {
        let reply = self.client().try_call(&["INFO", "everything"]);
        let Ok(super::Reply::Bulk(text) | super::Reply::Verbatim(_, text)) = reply else {
            return String::new();
        };
        let prefix = format!("{field}:");
        String::from_utf8_lossy(&text)
            .lines()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or("")
            .trim()
            .to_string()
    }
}

fn spawn(binary: &Path, dir: &Path, port: u16, args: &[String]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("log")).expect("a log file");
    // A configuration file comes before all options.
    let (file, options) = args.split_at(usize::from(args.first().is_some_and(|first| !first.starts_with('-'))));
    Command::new(binary)
        .args(file)
        .args(["--port", &port.to_string(), "--save", "", "--enable-debug-command", "yes"])
        .args(options)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary.display()))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        // After a failure the directory stays, for whoever looks into it.
        if !std::thread::panicking() {
            fs::remove_dir_all(&self.dir).ok();
        }
    }
}
