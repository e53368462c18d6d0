//! CLIENT KILL: the old form (an address) and the new one (filters that must all match).

use super::client_list::kind_named;
use crate::base::number::parse_i64;
use crate::commands::error::{self, CommandError};
use crate::resp::Args;
use crate::server::clients::{Client, Kind};
use crate::server::session::{SessionContext, SessionFlow};
use crate::server::state::Server;

#[derive(Default)]
struct Filter {
    id: Option<u64>,
    kind: Option<Kind>,
    user: Option<String>,
    addr: Option<Vec<u8>>,
    laddr: Option<Vec<u8>>,
    min_age_s: Option<i64>,
    skip_me: bool,
}

impl Filter {
    fn parse(args: Args<'_>, server: &Server) -> Result<Self, CommandError> {
        let mut filter = Filter { skip_me: true, ..Filter::default() };
        let mut at = 2;
        while at < args.len() {
            let value = args.get(at + 1).ok_or(error::SYNTAX)?;
            if args.is(at, "ID") {
                let id = parse_i64(value).and_then(|id| u64::try_from(id).ok()).filter(|id| *id > 0);
                filter.id = Some(id.ok_or(CommandError::fixed("ERR client-id should be greater than 0"))?);
            } else if args.is(at, "TYPE") {
                filter.kind = Some(kind_named(value)?);
            } else if args.is(at, "ADDR") {
                filter.addr = Some(value.to_vec());
            } else if args.is(at, "LADDR") {
                filter.laddr = Some(value.to_vec());
            } else if args.is(at, "USER") {
                if !server.has_user(value) {
                    return Err(CommandError::joined(&[b"ERR No such user '", value, b"'"]));
                }
                filter.user = Some(String::from_utf8_lossy(value).into_owned());
            } else if args.is(at, "MAXAGE") {
                let age = parse_i64(value).filter(|age| *age > 0);
                filter.min_age_s =
                    Some(age.ok_or(CommandError::fixed("ERR maxage is not an integer or out of range"))?);
            } else if args.is(at, "SKIPME") && (args.is(at + 1, "YES") || args.is(at + 1, "NO")) {
                filter.skip_me = args.is(at + 1, "YES");
            } else {
                return Err(error::SYNTAX);
            }
            at += 2;
        }
        Ok(filter)
    }

    fn matches(&self, client: &Client, now_ms: i64) -> bool {
        self.id.is_none_or(|id| client.id == id)
            && self.kind.is_none_or(|kind| client.kind() == kind)
            && self.user.as_ref().is_none_or(|user| client.texts.lock().user == *user)
            && self.addr.as_ref().is_none_or(|addr| client.addr.as_bytes() == addr)
            && self.laddr.as_ref().is_none_or(|laddr| client.laddr.as_bytes() == laddr)
            && self.min_age_s.is_none_or(|age| now_ms - client.created_ms >= age.saturating_mul(1000))
    }
}

pub fn kill(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Result<SessionFlow, CommandError> {
    let server = ctx.worker.server;
    let is_old_form = args.len() == 3;
    let filter = if is_old_form {
        Filter { addr: Some(args[2].to_vec()), ..Filter::default() }
    } else {
        Filter::parse(args, server)?
    };
    let me = ctx.session.client.id;
    let (mut killed, mut suicide) = (0, false);
    for client in server.clients.all() {
        if !filter.matches(&client, ctx.worker.now_ms) || (client.id == me && filter.skip_me) {
            continue;
        }
        killed += 1;
        if client.id == me {
            suicide = true;
        } else {
            server.clients.kill(&client);
        }
    }
    if !is_old_form {
        ctx.reply.integer(killed);
    } else if killed == 0 {
        return Err(CommandError::fixed("ERR No such client"));
    } else {
        ctx.reply.ok();
    }
    Ok(if suicide { SessionFlow::Close } else { SessionFlow::Done })
}
