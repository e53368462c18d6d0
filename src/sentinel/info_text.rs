//! The lines of INFO that matter here. Everything else that an instance tells is kept for INFO-CACHE, and not looked at.

use super::address::{leading_count, leading_number};
use super::instance::Role;

#[derive(Debug, PartialEq, Eq)]
pub struct Report {
    pub run_id: Option<String>,
    pub role: Role,
    /// Of a primary: host and port of its replicas.
    pub replicas: Vec<(String, i64)>,
    /// Of a replica. What is absent stays as it was known, but for the time that the link is down.
    pub link_down_ms: i64,
    pub master_host: Option<String>,
    pub master_port: Option<i64>,
    pub master_link_up: Option<bool>,
    pub priority: Option<i64>,
    pub offset: Option<u64>,
    pub is_announced: Option<bool>,
}

const RUN_ID_LEN: usize = 40;

pub fn read(text: &[u8]) -> Report {
    let mut report = Report {
        run_id: None,
        role: Role::Unknown,
        replicas: Vec::new(),
        link_down_ms: 0,
        master_host: None,
        master_port: None,
        master_link_up: None,
        priority: None,
        offset: None,
        is_announced: None,
    };
    let own = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        match name {
            b"run_id" => report.run_id = value.get(..RUN_ID_LEN).map(own).or(report.run_id),
            b"role" if value.starts_with(b"master") => report.role = Role::Primary,
            b"role" if value.starts_with(b"slave") => report.role = Role::Replica,
            b"master_host" => report.master_host = Some(own(value)),
            b"master_port" => report.master_port = Some(leading_number(value)),
            b"master_link_status" => report.master_link_up = Some(value.eq_ignore_ascii_case(b"up")),
            b"master_link_down_since_seconds" => report.link_down_ms = leading_number(value).saturating_mul(1000),
            b"slave_priority" => report.priority = Some(leading_number(value)),
            b"slave_repl_offset" => report.offset = Some(leading_count(value)),
            b"replica_announced" => report.is_announced = Some(leading_number(value) != 0),
            [b's', b'l', b'a', b'v', b'e', digit, ..] if digit.is_ascii_digit() => {
                report.replicas.extend(replica_of(value));
            }
            _ => {}
        }
    }
    report
}

/// `ip=10.0.0.1,port=6379,state=online,…`, or, from servers before 2.8, `10.0.0.1,6379,online`.
fn replica_of(value: &[u8]) -> Option<(String, i64)> {
    let parts: Vec<&[u8]> = value.split(|byte| *byte == b',').collect();
    let field = |name: &[u8]| parts.iter().find_map(|part| part.strip_prefix(name));
    let (host, port) = match (field(b"ip="), field(b"port=")) {
        (Some(host), Some(port)) => (host, port),
        (None, _) if parts.len() >= 3 => (parts[0], parts[1]),
        _ => return None,
    };
    Some((String::from_utf8_lossy(host).into_owned(), leading_number(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_primary_names_its_replicas() {
        let text = b"# Server\r\nrun_id:0123456789012345678901234567890123456789\r\n# Replication\r\nrole:master\r\n\
                     connected_slaves:2\r\nslave0:ip=10.0.0.2,port=6380,state=online,offset=1,lag=0\r\n\
                     slave1:10.0.0.3,6381,online\r\nslave_x:1\r\nslave2:ip=10.0.0.4\r\n";
        let report = read(text);
        assert_eq!(report.role, Role::Primary);
        assert_eq!(report.run_id.as_deref(), Some("0123456789012345678901234567890123456789"));
        assert_eq!(report.replicas, [("10.0.0.2".into(), 6380), ("10.0.0.3".into(), 6381)]);
    }

    #[test]
    fn a_replica_tells_of_its_primary() {
        let report = read(
            b"run_id:short\r\nrole:slave\r\nmaster_host:db\r\nmaster_port:6379\r\nmaster_link_status:down\r\n\
              master_link_down_since_seconds:12\r\nslave_repl_offset:18446744073709551615\r\nslave_priority:0\r\n\
              replica_announced:0\r\n",
        );
        assert_eq!((report.role, report.run_id, report.link_down_ms), (Role::Replica, None, 12_000));
        assert_eq!((report.master_host.as_deref(), report.master_port), (Some("db"), Some(6379)));
        assert_eq!((report.master_link_up, report.priority), (Some(false), Some(0)));
        assert_eq!((report.offset, report.is_announced), (Some(u64::MAX), Some(false)));
        assert_eq!(read(b"").role, Role::Unknown);
    }
}
