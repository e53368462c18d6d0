//! The ACL file: one user per line, `user NAME RULE…`. Read at start and by ACL LOAD, as a whole or not at all; replaced by ACL SAVE.

use super::config_file::replace;
use crate::server::Server;
use crate::server::acl::rules::{RuleError, is_user_name, join_selectors};
use crate::server::acl::{AclFile, User};
use std::path::Path;

/// What `server` is given to reach the file.
pub const FILE: AclFile = AclFile { load, save };

/// The users of the file. The error tells all its faults in one line, as it goes to the client of ACL LOAD.
fn load(server: &'static Server) -> Result<Vec<User>, String> {
    let path = &server.config.current().aclfile;
    let text = std::fs::read(path).map_err(|error| {
        let reason = error
            .raw_os_error()
            .map_or_else(|| error.to_string(), |code| nix::errno::Errno::from_raw(code).desc().to_string());
        format!("Error loading ACLs, opening file '{path}': {reason}")
    })?;
    parse(server, path, &text)
}

fn parse(server: &Server, path: &str, text: &[u8]) -> Result<Vec<User>, String> {
    let mut users: Vec<User> = Vec::new();
    let mut faults = String::new();
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if !line.is_empty() {
            read_line(server, path, index + 1, line, &mut users, &mut faults);
        }
    }
    if faults.is_empty() {
        return Ok(users);
    }
    faults.push_str("WARNING: ACL errors detected, no change to the previously active ACL rules was performed");
    Err(faults)
}

/// Reads one user; what is wrong with it goes to `faults`.
fn read_line(server: &Server, path: &str, number: usize, line: &[u8], users: &mut Vec<User>, faults: &mut String) {
    let show = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [b"user", name, rules @ ..] = words.as_slice() else {
        *faults += &format!("{path}:{number} should start with user keyword followed by the username. ");
        return;
    };
    if !is_user_name(name) {
        *faults += &format!("'{path}:{number}: username '{}' contains invalid characters. ", show(name));
        return;
    }
    if users.iter().any(|user| *user.name == **name) {
        *faults += &format!("WARNING: Duplicate user '{}' found on line {number}. ", show(name));
        return;
    }
    let Ok(rules) = join_selectors(rules) else {
        *faults += &format!("{path}:{number}: Unmatched parenthesis in selector definition.");
        return;
    };
    let context = server.acl_rules();
    let mut user = User::new(server.acl.next_id(), name, server.table, context.all_channels);
    let mut told = false;
    for rule in rules.iter().map(|rule| rule.trim_ascii()) {
        match context.apply(&mut user, rule) {
            Ok(()) => {}
            // Names of commands are no secret.
            Err(error @ RuleError::Unknown) => {
                *faults +=
                    &format!("{path}:{number}: Error in applying operation '{}': {}. ", show(rule), error.text());
            }
            // Later words may only suffer from the first fault.
            Err(error) if !told => {
                told = true;
                *faults += &format!("{path}:{number}: {}. ", error.text());
            }
            Err(_) => {}
        }
    }
    users.push(user.settle(server.table));
}

fn save(server: &'static Server) -> std::io::Result<()> {
    let mut text = Vec::new();
    for line in server.user_lines() {
        text.extend_from_slice(b"user ");
        text.extend_from_slice(&line);
        text.push(b'\n');
    }
    replace(Path::new(&server.config.current().aclfile), &text)
}

/// The users of the configuration: its `user` lines or its ACL file. An error means that the server must not start.
pub fn start(server: &'static Server, declared: &[crate::server::config::Declared]) -> Result<(), String> {
    let has_file = !server.config.current().aclfile.is_empty();
    if has_file && !declared.is_empty() {
        return Err("Configuring Redis with users defined in redis.conf and at the same setting an ACL file path is invalid. \
                    This setup is very likely to lead to configuration errors and security holes, please define either an \
                    ACL file or declare users directly in your redis.conf, but not both."
            .into());
    }
    if !declared.is_empty() {
        server
            .declare_users(declared)
            .map_err(|reason| format!("{reason}\nCritical error while loading ACLs. Exiting."))?;
    }
    if has_file {
        let users = load(server).map_err(|reason| format!("Aborting Redis startup because of ACL errors: {reason}"))?;
        server.replace_users(users, 0);
    }
    Ok(())
}
