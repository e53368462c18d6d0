//! Checks of single values beyond their syntax.

type Checked = Result<(), &'static str>;

pub(super) fn dbfilename(name: &str) -> Checked {
    base_name(name, "dbfilename can't be a path, just a filename")
}

pub(super) fn appendfilename(name: &str) -> Checked {
    if name.is_empty() {
        return Err("appendfilename can't be empty");
    }
    base_name(name, "appendfilename can't be a path, just a filename")
}

pub(super) fn appenddirname(name: &str) -> Checked {
    if name.is_empty() {
        return Err("appenddirname can't be empty");
    }
    base_name(name, "appenddirname can't be a path, just a dirname")
}

fn base_name(name: &str, error: &'static str) -> Checked {
    if name.contains(['/', '\\']) { Err(error) } else { Ok(()) }
}

pub(super) fn announced_hostname(name: &Option<String>) -> Checked {
    announced(
        name,
        "Hostnames must be less than 256 characters",
        "Hostnames may only contain alphanumeric characters, hyphens or dots",
    )
}

pub(super) fn announced_nodename(name: &Option<String>) -> Checked {
    announced(
        name,
        "Hostnames must be less than 256 characters",
        "Announced human node name contained invalid character",
    )
}

fn announced(name: &Option<String>, too_long: &'static str, bad: &'static str) -> Checked {
    let Some(name) = name else { return Ok(()) };
    if name.len() >= 256 {
        return Err(too_long);
    }
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    if name.bytes().all(allowed) { Ok(()) } else { Err(bad) }
}

/// Every variable must be known, and the title must not be empty when all of them are.
pub(super) fn proc_title_template(template: &str) -> Checked {
    const BAD: &str = "template format is invalid or contains unknown variables";
    let expanded = expand_proc_title(template, |name| match name {
        "title" | "server-mode" => Some(String::new()),
        _ => PROC_TITLE_VARIABLES.contains(&name).then(|| "x".to_string()),
    });
    if expanded.ok_or(BAD)?.trim().is_empty() { Err(BAD) } else { Ok(()) }
}

const PROC_TITLE_VARIABLES: [&str; 5] = ["listen-addr", "config-file", "port", "tls-port", "unixsocket"];

/// Replaces `{variable}`s by their values; `{{` is a brace. `None` if a variable is unknown or not closed.
pub fn expand_proc_title(template: &str, value: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        text.push_str(before);
        if let Some(after) = after.strip_prefix('{') {
            text.push('{');
            rest = after;
            continue;
        }
        let (name, after) = after.split_once('}')?;
        text.push_str(&value(name)?);
        rest = after;
    }
    text.push_str(rest);
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_titles() {
        assert!(proc_title_template("{title} {listen-addr} {server-mode}").is_ok());
        assert!(proc_title_template("--my--title--template").is_ok());
        for bad in ["", "{title} {server-mode}", "{unknown}", "{title", "{"] {
            assert!(proc_title_template(bad).is_err(), "{bad}");
        }
        assert_eq!(expand_proc_title("a{{b}{x}", |name| Some(name.to_uppercase())).as_deref(), Some("a{b}X"));
    }

    #[test]
    fn names_are_not_paths() {
        assert_eq!(dbfilename("a/b"), Err("dbfilename can't be a path, just a filename"));
        assert_eq!(appendfilename(""), Err("appendfilename can't be empty"));
        assert!(announced_hostname(&Some("my-host.example".into())).is_ok());
        assert!(announced_hostname(&Some("bad host".into())).is_err());
    }
}
