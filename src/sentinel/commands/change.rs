//! Commands that change what this sentinel watches, believes or does.

use super::{Outcome, find, sentinel, text};
use crate::base::glob;
use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError};
use crate::resp::Args;
use crate::sentinel::action::{Action, Level};
use crate::sentinel::core::{Core, Simulated};
use crate::sentinel::hello::HELLO_CHANNEL;
use crate::sentinel::instance::{Id, Kind};
use crate::sentinel::periods::{PERIODS, Periods};
use crate::sentinel::service::{Saved, may_run};
use crate::server::session::{SessionContext, SessionFlow};

const NOT_SAVED: CommandError = CommandError::fixed("ERR Failed to save config file. Check server logs.");

/// OK, if the file has followed.
fn answer_saved(ctx: &mut SessionContext<'_>, saved: Saved) -> Outcome {
    if saved == Saved::No {
        return Err(NOT_SAVED);
    }
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

/// A word that would break the lines of the file, or worse, write new ones into it.
fn has_control_characters(word: &[u8]) -> bool {
    word.iter().any(u8::is_ascii_control)
}

/// Another sentinel says hello; nothing else can be published here.
pub fn publish(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    if &args[1] != HELLO_CHANNEL {
        return Err(CommandError::fixed("ERR Only HELLO messages are accepted by Sentinel instances."));
    }
    sentinel()?.change(|core, _| core.take_hello(&args[2]));
    ctx.reply.integer(1);
    Ok(SessionFlow::Done)
}

pub fn flushconfig(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    let ((), saved) = sentinel()?.change_and_save(|core, _| core.act(Action::Persist));
    answer_saved(ctx, saved)
}

/// The question of another sentinel. With an id at the end it is also a request for our vote.
pub fn is_master_down_by_addr(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let port = parse_i64(&args[3]).ok_or(error::NOT_AN_INTEGER)?;
    let epoch = parse_i64(&args[4]).ok_or(error::NOT_AN_INTEGER)? as u64;
    let (is_down, leader, leader_epoch) =
        sentinel()?.change(|core, _| core.opine(&text(&args[2]), port, epoch, &text(&args[5])));
    ctx.reply.array(3);
    ctx.reply.integer(i64::from(is_down));
    ctx.reply.bulk(leader.as_deref().unwrap_or("*").as_bytes());
    ctx.reply.integer(leader_epoch as i64);
    Ok(SessionFlow::Done)
}

pub fn failover(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    sentinel()?.change(|core, _| {
        let id = find(core, &args[2])?;
        if core.primary(id).failover.in_progress {
            return Err(CommandError::fixed("INPROG Failover already in progress"));
        }
        if core.best_replica(id).is_none() {
            return Err(CommandError::fixed("NOGOODSLAVE No suitable replica to promote"));
        }
        core.log(Level::Warning, format!("Executing user requested FAILOVER of '{}'", core.it(id).name));
        core.start_failover(id);
        core.primary_mut(id).failover.forced = true;
        Ok(())
    })?;
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

pub fn monitor(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let quorum = parse_i64(&args[5]).ok_or(CommandError::fixed("ERR Invalid quorum"))?;
    let port = parse_i64(&args[4]).ok_or(CommandError::fixed("ERR Invalid port"))?;
    if quorum <= 0 {
        return Err(CommandError::fixed("ERR Quorum must be 1 or greater."));
    }
    if has_control_characters(&args[2]) {
        return Err(CommandError::fixed("ERR Invalid master name"));
    }
    let quorum = u32::try_from(quorum).unwrap_or(u32::MAX);
    let (result, saved) = sentinel()?.change_and_save(|core, _| {
        let host = text(&args[3]);
        if core.resolve(&host).is_none() {
            return Err(CommandError::fixed("ERR Invalid IP address or hostname specified"));
        }
        let id = core
            .add_primary(&text(&args[2]), &host, port, quorum)
            .map_err(|fault| CommandError::new(format!("ERR {}", fault.text(Kind::Primary))))?;
        core.act(Action::Persist);
        core.tell_monitored(id);
        Ok(())
    });
    result?;
    answer_saved(ctx, saved)
}

pub fn remove(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let (result, saved) = sentinel()?.change_and_save(|core, _| {
        let id = find(core, &args[2])?;
        core.event_of(Level::Warning, "-monitor", id, "");
        core.remove_primary(id);
        core.act(Action::Persist);
        Ok::<(), CommandError>(())
    });
    result?;
    answer_saved(ctx, saved)
}

pub fn reset(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let count = sentinel()?.change(|core, _| {
        let names: Vec<(String, Id)> = core.names.iter().map(|(name, id)| (name.clone(), *id)).collect();
        let matching = names.into_iter().filter(|(name, _)| glob::matches(&args[2], name.as_bytes()));
        matching.map(|(_, id)| core.reset_by_wish(id)).count()
    });
    ctx.reply.count(count);
    Ok(SessionFlow::Done)
}

// ---- SENTINEL SET --------------------------------------------------------------------------------------------------

pub fn set(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let (result, saved) = sentinel()?.change_and_save(|core, _| {
        let id = find(core, &args[2])?;
        let (mut at, mut changes) = (3, 0);
        let mut outcome = Ok(());
        // What was good before a fault stays, as in stock Sentinel, and is saved.
        while at < args.len() && outcome.is_ok() {
            match set_option(core, id, args.from(at)) {
                Ok(words) => {
                    tell_set(core, id, args.from(at), words);
                    at += words;
                    changes += 1;
                }
                Err(error) => outcome = Err(error),
            }
        }
        if changes > 0 {
            core.act(Action::Persist);
        }
        outcome
    });
    result?;
    answer_saved(ctx, saved)
}

/// The event of a change; a password is not told.
fn tell_set(core: &mut Core, id: Id, words: Args<'_>, count: usize) {
    let is_secret = words.is(0, "auth-pass");
    let shown: Vec<String> =
        (0..count).map(|at| if at > 0 && is_secret { "******".to_owned() } else { text(&words[at]) }).collect();
    core.event_of(Level::Warning, "+set", id, &format!(" {}", shown.join(" ")));
}

/// One option with its values; how many words it has taken.
fn set_option(core: &mut Core, id: Id, words: Args<'_>) -> Result<usize, CommandError> {
    let option = text(&words[0]);
    let bad =
        |word: &[u8]| CommandError::new(format!("ERR Invalid argument '{}' for SENTINEL SET '{option}'", text(word)));
    let unknown =
        || CommandError::new(format!("ERR Unknown option or number of arguments for SENTINEL SET '{option}'"));
    let value = words.get(1).ok_or_else(unknown)?;
    let at_least = |least: i64| parse_i64(value).filter(|number| *number >= least).ok_or_else(|| bad(value));
    let word = || Some(value).filter(|value| !value.is_empty()).map(<[u8]>::to_vec);
    let name = option.to_ascii_lowercase();
    let takes_text = ["notification-script", "client-reconfig-script", "auth-pass", "auth-user"];
    if takes_text.contains(&name.as_str()) && has_control_characters(value) {
        return Err(bad(value));
    }
    match name.as_str() {
        "down-after-milliseconds" => {
            core.it_mut(id).down_after_ms = at_least(1)?;
            core.spread_down_after(id);
        }
        "failover-timeout" => core.primary_mut(id).failover.timeout_ms = at_least(1)?,
        "parallel-syncs" => core.primary_mut(id).parallel_syncs = at_least(1)?,
        "quorum" => core.primary_mut(id).quorum = u32::try_from(at_least(1)?).unwrap_or(u32::MAX),
        "master-reboot-down-after-period" => core.primary_mut(id).reboot_down_after_ms = at_least(0)?,
        "notification-script" => {
            let fault = "ERR Notification script seems non existing or non executable";
            core.primary_mut(id).notification_script = new_script(core, value, fault)?;
        }
        "client-reconfig-script" => {
            let fault = "ERR Client reconfiguration script seems non existing or non executable";
            core.primary_mut(id).client_reconfig_script = new_script(core, value, fault)?;
        }
        "auth-pass" => {
            core.primary_mut(id).auth_pass = word();
            core.drop_data_connections(id);
        }
        "auth-user" => {
            core.primary_mut(id).auth_user = word();
            core.drop_data_connections(id);
        }
        "rename-command" => {
            let new = words.get(2).ok_or_else(unknown)?;
            let is_bad = |word: &[u8]| word.is_empty() || has_control_characters(word);
            if let Some(word) = [value, new].into_iter().find(|word| is_bad(word)) {
                return Err(bad(word));
            }
            let renamed = &mut core.primary_mut(id).renamed;
            renamed.remove(&value.to_ascii_uppercase());
            if !value.eq_ignore_ascii_case(new) {
                renamed.insert(value.to_ascii_uppercase(), (value.to_vec(), new.to_vec()));
            }
            return Ok(3);
        }
        _ => return Err(unknown()),
    }
    Ok(2)
}

/// Whoever can name scripts can run programs here, so that is refused unless the file allows it.
fn new_script(core: &Core, path: &[u8], fault: &'static str) -> Result<Option<Vec<u8>>, CommandError> {
    if !core.settings.allow_script_changes {
        return Err(CommandError::fixed(
            "ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig \
             configuration directive in your Sentinel configuration",
        ));
    }
    if path.is_empty() {
        return Ok(None);
    }
    if may_run(path) { Ok(Some(path.to_vec())) } else { Err(CommandError::fixed(fault)) }
}

// ---- SENTINEL CONFIG, DEBUG, SIMULATE-FAILURE ----------------------------------------------------------------------

pub fn config(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    match args.len() {
        4 if args.is(2, "get") => config_get(ctx, &args[3]),
        5 if args.is(2, "set") => config_set(ctx, &args[3], &args[4]),
        _ => Err(CommandError::fixed("ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported.")),
    }
}

fn config_get(ctx: &mut SessionContext<'_>, pattern: &[u8]) -> Outcome {
    let settings = sentinel()?.look(|core, _| core.settings.clone());
    let flag = |value: bool| if value { b"yes".to_vec() } else { b"no".to_vec() };
    let all = [
        ("resolve-hostnames", flag(settings.resolve_hostnames)),
        ("announce-hostnames", flag(settings.announce_hostnames)),
        ("announce-ip", settings.announce_ip.unwrap_or_default().into_bytes()),
        ("announce-port", settings.announce_port.to_string().into_bytes()),
        ("sentinel-user", settings.auth_user.unwrap_or_default()),
        ("sentinel-pass", settings.auth_pass.unwrap_or_default()),
    ];
    let found: Vec<_> = all.iter().filter(|(name, _)| glob::matches_ignoring_case(pattern, name.as_bytes())).collect();
    ctx.reply.map(found.len());
    for (name, value) in found {
        ctx.reply.bulk(name.as_bytes());
        ctx.reply.bulk(value);
    }
    Ok(SessionFlow::Done)
}

fn config_set(ctx: &mut SessionContext<'_>, option: &[u8], value: &[u8]) -> Outcome {
    let bad = || {
        let (option, value) = (text(option), text(value));
        CommandError::new(format!("ERR Invalid value '{value}' to SENTINEL CONFIG SET '{option}'"))
    };
    let flag = || match () {
        () if value.eq_ignore_ascii_case(b"yes") => Ok(true),
        () if value.eq_ignore_ascii_case(b"no") => Ok(false),
        () => Err(bad()),
    };
    if has_control_characters(value) {
        return Err(bad());
    }
    let word = || Some(value).filter(|value| !value.is_empty()).map(<[u8]>::to_vec);
    let (result, saved) = sentinel()?.change_and_save(|core, _| {
        let settings = &mut core.settings;
        match text(option).to_ascii_lowercase().as_str() {
            "resolve-hostnames" => settings.resolve_hostnames = flag()?,
            "announce-hostnames" => settings.announce_hostnames = flag()?,
            "announce-ip" => settings.announce_ip = word().map(|word| text(&word)),
            "announce-port" => {
                let port = parse_i64(value).and_then(|port| u16::try_from(port).ok());
                settings.announce_port = port.ok_or_else(bad)?;
            }
            "sentinel-user" => {
                settings.auth_user = word();
                core.drop_sentinel_connections();
            }
            "sentinel-pass" => {
                settings.auth_pass = word();
                core.drop_sentinel_connections();
            }
            _ => {
                let option = text(option);
                return Err(CommandError::new(format!("ERR Invalid argument '{option}' to SENTINEL CONFIG SET")));
            }
        }
        core.act(Action::Persist);
        Ok(())
    });
    result?;
    answer_saved(ctx, saved)
}

pub fn debug(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    if args.len() == 2 {
        let mut periods = sentinel()?.look(|core, _| core.periods.clone());
        ctx.reply.map(PERIODS.len());
        for period in PERIODS {
            ctx.reply.bulk(period.name.to_ascii_uppercase().as_bytes());
            ctx.reply.bulk_integer(*(period.at)(&mut periods));
        }
        return Ok(SessionFlow::Done);
    }
    sentinel()?.change(|core, _| set_periods(&mut core.periods, args.from(2)))?;
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}

fn set_periods(periods: &mut Periods, words: Args<'_>) -> Result<(), CommandError> {
    let mut at = 0;
    while at < words.len() {
        let option = text(&words[at]);
        let period = PERIODS.iter().find(|period| period.name.eq_ignore_ascii_case(&option));
        let (Some(period), Some(value)) = (period, words.get(at + 1)) else {
            return Err(CommandError::new(format!(
                "ERR Unknown option or number of arguments for SENTINEL DEBUG '{option}'"
            )));
        };
        let ms = parse_i64(value).filter(|ms| *ms > 0).ok_or_else(|| {
            CommandError::new(format!("ERR Invalid argument '{}' for SENTINEL DEBUG '{option}'", text(value)))
        })?;
        *(period.at)(periods) = ms;
        at += 2;
    }
    Ok(())
}

pub fn simulate_failure(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let mut simulated = Simulated::default();
    for at in 2..args.len() {
        match () {
            () if args.is(at, "crash-after-election") => simulated.crash_after_election = true,
            () if args.is(at, "crash-after-promotion") => simulated.crash_after_promotion = true,
            () if args.is(at, "help") => {
                ctx.reply.array(2);
                ctx.reply.bulk(b"crash-after-election");
                ctx.reply.bulk(b"crash-after-promotion");
                return Ok(SessionFlow::Done);
            }
            () => return Err(CommandError::fixed("ERR Unknown failure simulation specified")),
        }
    }
    sentinel()?.change(|core, _| {
        core.simulated = simulated;
        for (is_on, when) in [
            (simulated.crash_after_election, "being successfully elected as failover leader"),
            (simulated.crash_after_promotion, "promoting the selected replica to master"),
        ] {
            if is_on {
                core.log(Level::Warning, format!("Failure simulation: this Sentinel will crash after {when}"));
            }
        }
    });
    ctx.reply.ok();
    Ok(SessionFlow::Done)
}
