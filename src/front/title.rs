//! The process title: what `ps` shows in place of the command line.
//!
//! The kernel reads it from the memory where the arguments of the process stand, so that is where it is written, through
//! /proc/self/mem, which needs no pointer.
//!
//! ```text
//!   arg_start            arg_end = env_start                     env_end
//!   | redis-server 0 --port 0 6379 0 | PATH=/bin 0 HOME=/root 0 … 0 |
//!   | a title of any length, and zeros up to the end                |
//! ```
//! A title may run into the environment, which nobody here reads any more, with one exception: the local time depends on TZ.
//! Where that is set, a title is cut at `arg_end`.

use crate::server::Server;
use crate::server::config::{Config, expand_proc_title};
use std::fs::OpenOptions;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Sets the title, now and whenever something changes that it shows.
pub fn follow(server: &'static Server) {
    if !server.config.current().set_proc_title {
        return;
    }
    let Ok(room) = room() else { return };
    let program = std::env::args().next().unwrap_or_default();
    let file = server.config_file.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let show = move |config: &Config| {
        if let Some(title) = title(config, &program, &file) {
            // A server without its title works as well.
            let _ = write(&room, title.trim().as_bytes());
        }
    };
    show(&server.config.current());
    let names = &["proc-title-template", "port", "tls-port", "bind"];
    server.config.on_changed(names, Box::new(move |_, new| show(new)));
}

fn title(config: &Config, program: &str, file: &str) -> Option<String> {
    expand_proc_title(&config.proc_title_template, |variable| {
        Some(match variable {
            "title" => program.to_owned(),
            "listen-addr" => listening_at(config),
            "server-mode" if config.cluster_enabled => "[cluster]".into(),
            "server-mode" if config.is_sentinel => "[sentinel]".into(),
            "server-mode" => String::new(),
            "config-file" => file.to_owned(),
            "port" => config.port.to_string(),
            "tls-port" => config.tls_port.to_string(),
            "unixsocket" => config.unixsocket.clone().unwrap_or_default(),
            _ => return None,
        })
    })
}

/// The first address and port, or the socket where there is no port.
fn listening_at(config: &Config) -> String {
    match if config.port != 0 { config.port } else { config.tls_port } {
        0 => config.unixsocket.clone().unwrap_or_default(),
        port => {
            let address = config.bind.0.first().map_or("*", String::as_str);
            format!("{}:{port}", address.strip_prefix('-').unwrap_or(address))
        }
    }
}

/// Where a title may stand: fields 48 to 51 of /proc/self/stat (proc_pid_stat(5)) are the ends of arguments and environment.
fn room() -> io::Result<Range<u64>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The second field, the name in parentheses, may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let addresses: Vec<u64> = fields.split_ascii_whitespace().skip(45).take(4).flat_map(str::parse).collect();
    match addresses[..] {
        [start, end, env_start, env_end] if start != 0 && start < end => {
            let goes_on = env_start == end && end < env_end && std::env::var_os("TZ").is_none();
            Ok(start..if goes_on { env_end } else { end })
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Writes the title and fills up with zeros. The last byte stays zero: another one would make the kernel read on, and whoever looks for
/// a variable of the environment would not find its end.
fn write(room: &Range<u64>, title: &[u8]) -> io::Result<()> {
    let mut bytes = vec![0; (room.end - room.start) as usize];
    let len = title.len().min(bytes.len() - 1);
    bytes[..len].copy_from_slice(&title[..len]);
    OpenOptions::new().write(true).open("/proc/self/mem")?.write_all_at(&bytes, room.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_is_filled_in() {
        let mut config = Config::default();
        let of = |config: &Config| title(config, "/bin/x", "/etc/x.conf").map(|title| title.trim().to_owned());
        assert_eq!(of(&config).as_deref(), Some("/bin/x *:6379"));
        config.proc_title_template = "{port} {tls-port} {unixsocket} {config-file} {listen-addr} {server-mode}".into();
        config.unixsocket = Some("/run/x".into());
        config.port = 0;
        config.cluster_enabled = true;
        assert_eq!(of(&config).as_deref(), Some("0 0 /run/x /etc/x.conf /run/x [cluster]"));
        config.proc_title_template = "{nothing}".into();
        assert_eq!(of(&config), None);
    }
}
