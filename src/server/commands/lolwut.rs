//! LOLWUT: a small landscape, another one each time, and the version.

use crate::base::random::Random;
use crate::commands::error::CommandError;
use crate::commands::spec::Group;
use crate::commands::{args, error};
use crate::resp::Args;
use crate::server::config::REDIS_VERSION;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::new("lolwut", -1, lolwut)
    .group(Group::Server)
    .since("5.0.0")
    .readonly()
    .fast()
    .syntax("[VERSION version]")
    .summary("Draws something, and tells the version.")];

/// Numbers behind the version are the columns and rows of the picture.
fn lolwut(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let mut sizes = args.from(1);
    let mut has_picture = true;
    if args.is(1, "VERSION") && args.len() >= 3 {
        // Redis drew something for these versions.
        has_picture = matches!(args::integer(&args[2])?, 5 | 6);
        sizes = args.from(3);
    }
    let size = |index: usize, default: usize, most: i64| match sizes.get(index) {
        Some(text) => {
            args::integer_in(text, i64::MIN..=i64::MAX, error::NOT_AN_INTEGER).map(|n| n.clamp(8, most) as usize)
        }
        None => Ok(default),
    };
    let (columns, rows) = (size(0, 60, 400)?, size(1, 12, 100)?);
    let mut text = if has_picture { draw(columns, rows, &mut ctx.worker.random) } else { String::new() };
    text.push_str(&format!("Redis ver. {REDIS_VERSION} (rsredis {})\n", env!("CARGO_PKG_VERSION")));
    ctx.reply.verbatim("txt", text.as_bytes());
    Ok(SessionFlow::Done)
}

/// Three ranges of hills, each a walk of one step up or down per column; the nearer hides the farther. Above them stars.
fn draw(columns: usize, rows: usize, random: &mut Random) -> String {
    let mut picture = vec![vec![' '; columns]; rows];
    for row in picture.iter_mut().take(rows / 2) {
        for cell in row.iter_mut() {
            if random.below(40) == 0 {
                *cell = if random.below(4) == 0 { '*' } else { '.' };
            }
        }
    }
    for (range, mark) in ['.', ':', '#'].into_iter().enumerate() {
        let top = rows * (range + 2) / 6;
        let bottom = (top + rows / 3).min(rows.saturating_sub(1));
        let mut height = top + random.below((bottom - top + 1) as u64) as usize;
        for column in 0..columns {
            height = match random.below(3) {
                0 => height.saturating_sub(1).max(top),
                1 => (height + 1).min(bottom),
                _ => height,
            };
            for row in picture.iter_mut().skip(height) {
                if let Some(cell) = row.get_mut(column) {
                    *cell = mark;
                }
            }
        }
    }
    picture.into_iter().map(|row| row.into_iter().collect::<String>() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_size_is_drawn_in_full() {
        for (columns, rows) in [(8, 8), (60, 12), (400, 100)] {
            let text = draw(columns, rows, &mut Random::seeded(7));
            assert_eq!(text.lines().count(), rows);
            assert!(text.lines().all(|line| line.chars().count() == columns));
        }
    }
}
