//! ACL: the users. What only shows them is in `acl_show`.

use super::acl_show;
use super::help::help_of;
use crate::commands::args;
use crate::commands::error::{self, CommandError};
use crate::commands::flags::Flags;
use crate::commands::spec::Group;
use crate::resp::Args;
use crate::server::acl::DEFAULT;
use crate::server::acl::registry::ClosesCaller;
use crate::server::acl::selector::Denied;
use crate::server::dispatch;
use crate::server::session::{SessionCommand, SessionContext, SessionFlow, SessionHandler};

pub const COMMANDS: &[SessionCommand] = &[SessionCommand::container(
    "acl",
    &[
        about("cat", -2, acl_show::cat)
            .syntax("[category]")
            .summary("Lists the categories of commands, or the commands of one.")
            .complexity("O(1) since the categories and commands are a fixed set."),
        admin("deluser", -3, deluser)
            .syntax("username [username ...]")
            .summary("Deletes users and disconnects their clients.")
            .complexity("O(N) where N is the number of clients."),
        admin("dryrun", -4, dryrun)
            .since("7.0.0")
            .syntax("username command [arg [arg ...]]")
            .summary("Tells whether a user may run a command, without running it.")
            .complexity("O(1)."),
        about("genpass", -2, genpass)
            .syntax("[bits]")
            .summary("Makes up a password of 256 bits, or of as many as wanted.")
            .complexity("O(1)"),
        admin("getuser", 3, acl_show::getuser)
            .syntax("username")
            .summary("Shows a user with its passwords' hashes and its rules.")
            .complexity(USERS_COMPLEXITY),
        help_of(Group::Server, "6.0.0"),
        admin("list", 2, acl_show::list)
            .summary("Shows every user as a line of the ACL file.")
            .complexity(USERS_COMPLEXITY),
        admin("load", 2, load)
            .summary("Reads the ACL file again: all of it or, if there is a fault, nothing.")
            .complexity(USERS_COMPLEXITY),
        admin("log", -2, acl_show::log)
            .syntax("[count | RESET]")
            .summary("Shows what was refused lately, or forgets it.")
            .complexity("O(N) with N being the number of entries shown."),
        admin("save", 2, save)
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
            .summary("Writes the users into the ACL file.")
            .complexity(USERS_COMPLEXITY),
        admin("setuser", -3, setuser)
            .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
            .syntax("username [rule [rule ...]]")
            .summary("Makes or changes a user.")
            .complexity("O(N). Where N is the number of rules provided."),
        admin("users", 2, acl_show::users).summary("Names the users.").complexity(USERS_COMPLEXITY),
        about("whoami", 2, acl_show::whoami).summary("Names the user of this connection.").complexity("O(1)"),
    ],
)
.group(Group::Server)
.since("6.0.0")
.flag(Flags::SENTINEL)
.summary("Commands on users and what they may do.")
.complexity("Depends on subcommand.")];

const USERS_COMPLEXITY: &str = "O(N). Where N is the number of configured users.";
const GENPASS_BITS_MAX: i64 = 4096;
const NO_FILE: CommandError = CommandError::fixed(
    "ERR This Redis instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command \
     and then issue a CONFIG REWRITE (assuming you have a Redis configuration file set) in order to store users in the Redis \
     configuration.",
);

const fn about(name: &'static str, arity: i32, handler: SessionHandler) -> SessionCommand {
    SessionCommand::new(name, arity, handler).group(Group::Server).since("6.0.0").noscript().loading_stale()
}

const fn admin(name: &'static str, arity: i32, handler: SessionHandler) -> SessionCommand {
    about(name, arity, handler).admin()
}

type Outcome = Result<SessionFlow, CommandError>;

/// After a change of the users: this worker goes by it from its next command on.
fn finish(ctx: &mut SessionContext<'_>, ClosesCaller(closes): ClosesCaller) -> Outcome {
    ctx.worker.renew_settings();
    Ok(if closes { SessionFlow::Close } else { SessionFlow::Done })
}

fn setuser(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let words: Vec<&[u8]> = args.from(3).iter().collect();
    let closes = ctx.worker.server.set_user(&args[2], &words, ctx.session.client.id)?;
    ctx.reply.ok();
    finish(ctx, closes)
}

fn deluser(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    if args.from(2).iter().any(|name| name == DEFAULT) {
        return Err(CommandError::fixed("ERR The 'default' user cannot be removed"));
    }
    let (deleted, closes) = ctx.worker.server.delete_users(args.from(2).iter(), ctx.session.client.id);
    ctx.reply.count(deleted);
    finish(ctx, closes)
}

fn dryrun(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    let server = ctx.worker.server;
    let not_found =
        |what: &str, name: &[u8]| CommandError::joined(&[b"ERR ", what.as_bytes(), b" '", name, b"' not found"]);
    let user = server.acl.find(&args[2]).ok_or_else(|| not_found("User", &args[2]))?;
    let request = args.from(3);
    let entry = dispatch::find_name(ctx.worker, request).ok_or_else(|| not_found("Command", &request[0]))?;
    if !entry.spec.accepts_arity(request.len()) {
        return Err(CommandError::wrong_arity(&entry.full_name));
    }
    let about = |index: usize, what: &str| {
        let text = b"This user has no permissions to access the '";
        [text, error::shown(&request[index], usize::MAX), b"' ", what.as_bytes()].concat()
    };
    match user.check(entry, request) {
        Ok(()) => ctx.reply.ok(),
        Err(denied) => {
            let text = match denied {
                Denied::Command => {
                    format!("This user has no permissions to run the '{}' command", entry.full_name).into_bytes()
                }
                Denied::Key(index) => about(index, "key"),
                Denied::Channel(index) => about(index, "channel"),
            };
            ctx.reply.bulk(&text);
        }
    }
    Ok(SessionFlow::Done)
}

fn genpass(ctx: &mut SessionContext<'_>, args: Args<'_>) -> Outcome {
    if args.len() > 3 {
        return Err(CommandError::unknown_subcommand_arity(&args[0], &args[1]));
    }
    let bits = args.get(2).map_or(Ok(256), args::integer)?;
    if !(1..=GENPASS_BITS_MAX).contains(&bits) {
        return Err(CommandError::new(format!(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to \
             {GENPASS_BITS_MAX}"
        )));
    }
    let digits = usize::try_from(bits).unwrap_or_default().div_ceil(4);
    let mut bytes = vec![0; digits.div_ceil(2)];
    getrandom::fill(&mut bytes).map_err(|error| CommandError::new(format!("ERR no random numbers: {error}")))?;
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    ctx.reply.bulk(text.as_bytes());
    Ok(SessionFlow::Done)
}

fn load(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    let server = ctx.worker.server;
    let file = server.acl.file.get().filter(|_| !ctx.worker.config.aclfile.is_empty()).ok_or(NO_FILE)?;
    let users = (file.load)(server).map_err(|reason| CommandError::new(format!("ERR {reason}")))?;
    let closes = server.replace_users(users, ctx.session.client.id);
    ctx.reply.ok();
    finish(ctx, closes)
}

fn save(ctx: &mut SessionContext<'_>, _: Args<'_>) -> Outcome {
    let server = ctx.worker.server;
    let file = server.acl.file.get().filter(|_| !ctx.worker.config.aclfile.is_empty()).ok_or(NO_FILE)?;
    ctx.unlocked(move || {
        (file.save)(server).map_err(|error| {
            tracing::warn!("Writing the ACL file for ACL SAVE: {error}");
            CommandError::fixed(
                "ERR There was an error trying to save the ACLs. Please check the server logs for more information",
            )
        })
    })
}
