//! Addresses of instances: a name or an IP address as it was given, what it stands for, and a port.

use std::net::IpAddr;

/// Looks up a host name. Handed in from outside, since the machine itself asks nobody; it must answer without waiting for long.
pub trait Names: Send {
    fn resolve(&self, host: &str) -> Option<String>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// As it was given.
    pub host: String,
    /// What it stands for; empty as long as nobody knows.
    pub ip: String,
    /// 0 is the port of an address that turned out to be wrong: nobody connects there.
    pub port: u16,
}

/// Why an instance cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    BadPort,
    Unresolved,
    Duplicate,
}

/// The IP address in its usual form, if the text is one.
pub fn numeric(host: &str) -> Option<String> {
    host.parse::<IpAddr>().ok().map(|ip| ip.to_string())
}

impl Address {
    /// Whether both mean the same place, by address or, where that is not known, by name.
    pub fn is_same(&self, other: &Address) -> bool {
        self.port == other.port && (self.ip == other.ip || self.host.eq_ignore_ascii_case(&other.host))
    }
}

/// `host:port`, with brackets around an IPv6 address.
pub fn host_and_port(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// A number at the beginning of a text, as C's atoi reads it: 0 if there is none.
pub fn leading_number(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (sign, digits) = match text.split_first() {
        Some((b'-', rest)) => (-1, rest),
        Some((b'+', rest)) => (1, rest),
        _ => (1, text),
    };
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    sign * digits.fold(0i64, |sum, digit| sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')))
}

/// The same without a sign: epochs and offsets.
pub fn leading_count(text: &[u8]) -> u64 {
    let digits = text.trim_ascii_start().iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0u64, |sum, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_far_as_they_go() {
        for (text, number) in
            [("12", 12), (" -7x", -7), ("+3", 3), ("x", 0), ("", 0), ("99999999999999999999", i64::MAX)]
        {
            assert_eq!(leading_number(text.as_bytes()), number, "{text}");
        }
        assert_eq!(leading_count(b"18446744073709551615,x"), u64::MAX);
    }

    #[test]
    fn addresses_are_compared_by_ip_or_name() {
        let address = |host: &str, ip: &str, port| Address { host: host.into(), ip: ip.into(), port };
        assert!(address("db", "10.0.0.1", 1).is_same(&address("10.0.0.1", "10.0.0.1", 1)));
        assert!(address("DB", "", 1).is_same(&address("db", "10.0.0.1", 1)));
        assert!(!address("db", "10.0.0.1", 1).is_same(&address("db", "10.0.0.1", 2)));
        assert_eq!(host_and_port("::1", 7), "[::1]:7");
    }
}
