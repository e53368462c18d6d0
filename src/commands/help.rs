//! HELP of a container: made from what its subcommands declare.

use super::spec::Spec;
use crate::resp::Reply;

/// Writes the answer of `CONTAINER HELP`: a line of usage for each subcommand, then what it does.
pub fn write<'a>(container: &str, subcommands: impl Iterator<Item = &'a Spec>, reply: &mut Reply) {
    let mut lines =
        vec![format!("{} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:", container.to_uppercase())];
    for spec in subcommands.filter(|spec| spec.name != "help") {
        lines.push(usage(spec.name, spec.syntax));
        lines.push(format!("    {}", spec.summary));
    }
    lines.push("HELP".into());
    lines.push("    Prints this help.".into());
    reply.array(lines.len());
    lines.iter().for_each(|line| reply.simple(line));
}

/// `GET <parameter> ...` from the name and the syntax line.
pub fn usage(name: &str, syntax: &str) -> String {
    let mut text = name.to_uppercase();
    if !syntax.is_empty() {
        text.push(' ');
        text.push_str(syntax);
    }
    text
}
