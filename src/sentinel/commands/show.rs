//! Commands that only tell.

use super::{Outcome, find, sentinel};
use crate::base::number::IntText;
use crate::commands::error::CommandError;
use crate::resp::{Args, Reply};
use crate::sentinel::core::Core;
use crate::sentinel::election::majority;
use crate::sentinel::instance::{Id, Kind, Reconf, Role};
use crate::server::commands::keyspace;
use crate::server::info::{self, View};
use crate::server::session::{SessionContext, SessionFlow};
use std::fmt::Write;

/// A map that is written field by field.
struct Fields<'a> {
    reply: &'a mut Reply,
    count: usize,
}

impl Fields<'_> {
    fn text(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.reply.bulk(name.as_bytes());
        self.reply.bulk(value.as_ref());
        self.count += 1;
    }

    fn number(&mut self, name: &str, value: i64) {
        self.text(name, &*IntText::new(value));
    }

    fn count(&mut self, name: &str, value: usize) {
        self.number(name, value as i64);
    }
}

/// The long description of an instance.
fn describe(core: &Core, now_ms: i64, id: Id, reply: &mut Reply) {
    let mark = reply.begin();
    let mut fields = Fields { reply, count: 0 };
    let (instance, link) = (core.it(id), core.link(id));
    // 0 is never.
    let ago = |since_ms: i64| if since_ms == 0 { 0 } else { now_ms - since_ms };
    fields.text("name", &instance.name);
    fields.text("ip", core.shown(&instance.addr));
    fields.number("port", i64::from(instance.addr.port));
    fields.text("runid", instance.run_id.as_deref().unwrap_or_default());
    fields.text("flags", flags(core, id).join(","));
    fields.count("link-pending-commands", link.pending());
    fields.count("link-refcount", link.users);
    let primary = core.primaries.get(&id);
    if let Some(primary) = primary.filter(|primary| primary.failover.in_progress) {
        fields.text("failover-state", primary.failover.stage.wire_name());
    }
    fields.number("last-ping-sent", ago(link.ping_pending_ms));
    fields.number("last-ok-ping-reply", now_ms - link.available_ms);
    fields.number("last-ping-reply", now_ms - link.last_pong_ms);
    if instance.s_down {
        fields.number("s-down-time", now_ms - instance.s_down_since_ms);
    }
    if let Some(primary) = primary.filter(|primary| primary.o_down) {
        fields.number("o-down-time", now_ms - primary.o_down_since_ms);
    }
    fields.number("down-after-milliseconds", instance.down_after_ms);
    if instance.kind != Kind::Sentinel {
        fields.number("info-refresh", ago(instance.info_ms));
        fields.text("role-reported", if instance.role == Role::Primary { "master" } else { "slave" });
        fields.number("role-reported-time", now_ms - instance.role_since_ms);
    }
    if let Some(primary) = primary {
        fields.text("config-epoch", primary.config_epoch.to_string());
        fields.count("num-slaves", primary.replicas.len());
        fields.count("num-other-sentinels", primary.sentinels.len());
        fields.number("quorum", i64::from(primary.quorum));
        fields.number("failover-timeout", primary.failover.timeout_ms);
        fields.number("parallel-syncs", primary.parallel_syncs);
        for (name, script) in [
            ("notification-script", &primary.notification_script),
            ("client-reconfig-script", &primary.client_reconfig_script),
        ] {
            if let Some(script) = script {
                fields.text(name, script);
            }
        }
    }
    if let Some(replica) = core.replicas.get(&id) {
        fields.number("master-link-down-time", replica.link_down_ms);
        fields.text("master-link-status", if replica.master_link_up { "ok" } else { "err" });
        fields.text("master-host", replica.master_host.as_deref().unwrap_or("?"));
        fields.number("master-port", replica.master_port);
        fields.number("slave-priority", replica.priority);
        fields.text("slave-repl-offset", replica.offset.to_string());
        fields.number("replica-announced", i64::from(replica.is_announced));
    }
    if let Some(other) = core.others.get(&id) {
        fields.number("last-hello-message", now_ms - other.last_hello_ms);
        fields.text("voted-leader", other.leader.as_deref().unwrap_or("?"));
        fields.text("voted-leader-epoch", other.leader_epoch.to_string());
    }
    let count = fields.count;
    fields.reply.end_map(mark, count);
}

fn flags(core: &Core, id: Id) -> Vec<&'static str> {
    let (instance, primary) = (core.it(id), core.primaries.get(&id));
    let (replica, other) = (core.replicas.get(&id), core.others.get(&id));
    let reconf = |wanted| replica.is_some_and(|replica| replica.reconf == wanted);
    [
        (instance.s_down, "s_down"),
        (primary.is_some_and(|primary| primary.o_down), "o_down"),
        (true, instance.kind.wire_name()),
        (core.link(id).disconnected, "disconnected"),
        (other.is_some_and(|other| other.says_down), "master_down"),
        (primary.is_some_and(|primary| primary.failover.in_progress), "failover_in_progress"),
        (replica.is_some_and(|replica| replica.is_promoted), "promoted"),
        (reconf(Reconf::Sent), "reconf_sent"),
        (reconf(Reconf::InProgress), "reconf_inprog"),
        (reconf(Reconf::Done), "reconf_done"),
        (primary.is_some_and(|primary| primary.failover.forced), "force_failover"),
        (instance.script_kill_sent, "script_kill_sent"),
    ]
    .into_iter()
    .filter_map(|(is_set, name)| is_set.then_some(name))
    .collect()
}

fn describe_all(core: &Core, now_ms: i64, ids: &[Id], reply: &mut Reply) {
    // A replica that does not want to be known (replica-announced no) is left out.
    let is_shown = |id: &&Id| core.replicas.get(id).is_none_or(|replica| replica.is_announced);
    let shown: Vec<&Id> = ids.iter().filter(is_shown).collect();
    reply.array(shown.len());
    shown.into_iter().for_each(|id| describe(core, now_ms, *id, reply));
}

pub fn masters(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    sentinel()?.look(|core, now_ms| describe_all(core, now_ms, &core.primary_ids(), ctx.reply));
    Ok(SessionFlow::Done)
}

pub fn master(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    sentinel()?.look(|core, now_ms| {
        describe(core, now_ms, find(core, &args[2])?, ctx.reply);
        Ok(SessionFlow::Done)
    })
}

pub fn replicas(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    sentinel()?.look(|core, now_ms| {
        describe_all(core, now_ms, &core.replica_ids(find(core, &args[2])?), ctx.reply);
        Ok(SessionFlow::Done)
    })
}

pub fn sentinels(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    sentinel()?.look(|core, now_ms| {
        describe_all(core, now_ms, &core.sentinel_ids(find(core, &args[2])?), ctx.reply);
        Ok(SessionFlow::Done)
    })
}

pub fn get_master_addr_by_name(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    sentinel()?.look(|core, _| match find(core, &args[2]) {
        Err(_) => ctx.reply.null_array(),
        Ok(id) => {
            let address = core.current_address(id);
            ctx.reply.array(2);
            ctx.reply.bulk(core.shown(address).as_bytes());
            ctx.reply.bulk_integer(i64::from(address.port));
        }
    });
    Ok(SessionFlow::Done)
}

pub fn myid(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    sentinel()?.look(|core, _| ctx.reply.bulk(core.my_id.as_bytes()));
    Ok(SessionFlow::Done)
}

/// Counts who is up: for the quorum, and for the majority of all that are known.
pub fn ckquorum(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    sentinel()?.look(|core, _| {
        let id = find(core, &args[2])?;
        let others = core.sentinel_ids(id);
        let usable = 1 + others.iter().filter(|other| !core.it(**other).s_down).count();
        let mut lacks = Vec::new();
        if usable < core.primary(id).quorum as usize {
            lacks.push("Not enough available Sentinels to reach the specified quorum for this master");
        }
        if usable < majority(others.len()) {
            lacks.push("Not enough available Sentinels to reach the majority and authorize a failover");
        }
        if !lacks.is_empty() {
            return Err(CommandError::new(format!("NOQUORUM {usable} usable Sentinels. {}", lacks.join(". "))));
        }
        ctx.reply.simple(&format!("OK {usable} usable Sentinels. Quorum and failover authorization can be reached"));
        Ok(SessionFlow::Done)
    })
}

pub fn info_cache(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    sentinel()?.look(|core, now_ms| {
        let mut ids: Vec<Id> = args.from(2).iter().filter_map(|name| find(core, name).ok()).collect();
        ids.sort_unstable();
        ids.dedup();
        let reply = &mut *ctx.reply;
        reply.array(ids.len() * 2);
        for id in ids {
            reply.bulk(core.it(id).name.as_bytes());
            let family: Vec<Id> = std::iter::once(id).chain(core.replica_ids(id)).collect();
            reply.array(family.len());
            for id in family {
                let instance = core.it(id);
                reply.array(2);
                reply.integer(if instance.info_ms == 0 { 0 } else { now_ms - instance.info_ms });
                match &instance.info {
                    Some(text) => reply.bulk(text),
                    None => reply.null(),
                }
            }
        }
    });
    Ok(SessionFlow::Done)
}

pub fn pending_scripts(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    sentinel()?.look(|core, now_ms| {
        let queue = &core.scripts.queue;
        ctx.reply.array(queue.len());
        for job in queue {
            ctx.reply.map(5);
            ctx.reply.bulk(b"argv");
            ctx.reply.array(job.words.len());
            job.words.iter().for_each(|word| ctx.reply.bulk(word));
            let mut fields = Fields { reply: &mut *ctx.reply, count: 0 };
            fields.text("flags", if job.is_running { "running" } else { "scheduled" });
            fields.number("pid", i64::from(job.pid));
            if job.is_running {
                fields.number("run-time", now_ms - job.time_ms);
            } else {
                fields.number("run-delay", (job.time_ms - now_ms).max(0));
            }
            fields.number("retry-num", i64::from(job.tries));
        }
    });
    Ok(SessionFlow::Done)
}

pub fn role(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    sentinel()?.look(|core, _| {
        ctx.reply.array(2);
        ctx.reply.bulk(b"sentinel");
        ctx.reply.array(core.names.len());
        core.names.keys().for_each(|name| ctx.reply.bulk(name.as_bytes()));
    });
    Ok(SessionFlow::Done)
}

/// Sections of an ordinary server that a Sentinel shows, too.
const SECTIONS: [&str; 4] = ["server", "clients", "stats", "cpu"];

pub fn info(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let is_named = |wanted: &str| args.from(1).iter().any(|name| name.eq_ignore_ascii_case(wanted.as_bytes()));
    let all = args.len() == 1 || ["default", "all", "everything"].into_iter().any(is_named);
    let sections: Vec<&str> = SECTIONS.into_iter().filter(|section| all || is_named(section)).collect();
    let mut text = String::new();
    if !sections.is_empty() {
        let view = View::new(ctx.worker.server, keyspace::all(&mut ctx.locked)?);
        text = info::render(&view, &sections);
    }
    if all || is_named("sentinel") {
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        sentinel()?.look(|core, now_ms| write_section(core, now_ms, &mut text));
    }
    ctx.reply.bulk(text.as_bytes());
    Ok(SessionFlow::Done)
}

/// Writing into a String cannot fail.
fn write_section(core: &Core, now_ms: i64, text: &mut String) {
    let tilt_s = if core.tilt { (now_ms - core.tilt_since_ms) / 1000 } else { -1 };
    let simulated =
        u32::from(core.simulated.crash_after_election) + 2 * u32::from(core.simulated.crash_after_promotion);
    let _ = write!(
        text,
        "# Sentinel\r\nsentinel_masters:{}\r\nsentinel_tilt:{}\r\nsentinel_tilt_since_seconds:{tilt_s}\r\n\
         sentinel_running_scripts:{}\r\nsentinel_scripts_queue_length:{}\r\nsentinel_simulate_failure_flags:{simulated}\r\n",
        core.names.len(),
        u32::from(core.tilt),
        core.scripts.running(),
        core.scripts.queue.len(),
    );
    for (index, id) in core.primary_ids().into_iter().enumerate() {
        let (instance, primary) = (core.it(id), core.primary(id));
        let status = match (primary.o_down, instance.s_down) {
            (true, _) => "odown",
            (false, true) => "sdown",
            (false, false) => "ok",
        };
        let _ = write!(
            text,
            "master{index}:name={},status={status},address={}:{},slaves={},sentinels={}\r\n",
            instance.name,
            core.shown(&instance.addr),
            instance.addr.port,
            primary.replicas.len(),
            primary.sentinels.len() + 1
        );
    }
}
