//! GEOADD, GEOPOS, GEODIST, GEOHASH: positions as scores of a sorted set. Searching is in `geo_search`.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::error::{self, CommandError, CommandResult};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand};
use super::zset;
use crate::base::long_double::LongDouble;
use crate::base::number::IntText;
use crate::engine::geohash::{LATITUDE_MAX, LONGITUDE_MAX, Position};
use crate::resp::{Args, OwnedArgs, Reply};

pub const COMMANDS: &[KeyCommand] = &[
    KeyCommand::new("geoadd", -5, geoadd)
        .since("3.2.0")
        .group(Group::Geo)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).rw().update()])
        .syntax("key [NX | XX] [CH] longitude latitude member [longitude latitude member ...]")
        .summary("Adds members with their positions to a sorted set, or moves them.")
        .complexity("O(log(N)) for each member, where N is the size of the sorted set"),
    KeyCommand::new("geodist", -4, geodist)
        .since("3.2.0")
        .group(Group::Geo)
        .readonly()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key member1 member2 [M | KM | FT | MI]")
        .summary("Returns the distance between two members.")
        .complexity("O(log(N))"),
    KeyCommand::new("geohash", -2, geohash)
        .since("3.2.0")
        .group(Group::Geo)
        .readonly()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key [member [member ...]]")
        .summary("Returns the positions of members as geohash texts.")
        .complexity("O(log(N)) for each member, where N is the size of the sorted set"),
    KeyCommand::new("geopos", -2, geopos)
        .since("3.2.0")
        .group(Group::Geo)
        .readonly()
        .keys(&[KeySpec::at(1).ro().access()])
        .syntax("key [member [member ...]]")
        .summary("Returns the longitudes and latitudes of members.")
        .complexity("O(N) where N is the number of members asked for"),
];

/// A longitude and the latitude behind it.
pub fn position(args: Args<'_>, index: usize) -> CommandResult<Position> {
    let longitude = args::float(args::value_of(args, index)?)?;
    let latitude = args::float(args::value_of(args, index + 1)?)?;
    if longitude.abs() > LONGITUDE_MAX || latitude.abs() > LATITUDE_MAX {
        return Err(CommandError::new(format!("ERR invalid longitude,latitude pair {longitude:.6},{latitude:.6}")));
    }
    Ok(Position { longitude, latitude })
}

/// Metres of a unit.
pub fn unit(args: Args<'_>, index: usize) -> CommandResult<f64> {
    let known = [("M", 1.0), ("KM", 1000.0), ("FT", 0.3048), ("MI", 1609.34)];
    let found = known.iter().find(|(name, _)| args.is(index, name));
    found
        .map(|(_, metres)| *metres)
        .ok_or(CommandError::fixed("ERR unsupported unit provided. please use M, KM, FT, MI"))
}

/// A distance with exactly four decimals, a bulk string in both protocols.
pub fn reply_distance(reply: &mut Reply, distance: f64) {
    let scaled = (distance * 10_000.0).round_ties_even() as i64;
    let sign = if scaled < 0 { "-" } else { "" };
    let (whole, fraction) = (scaled.unsigned_abs() / 10_000, scaled.unsigned_abs() % 10_000);
    reply.bulk(format!("{sign}{whole}.{fraction:04}").as_bytes());
}

/// Longitude and latitude with all the digits that doubles hide.
pub fn reply_position(reply: &mut Reply, position: Position) {
    reply.array(2);
    for coordinate in [position.longitude, position.latitude] {
        reply.double_text(LongDouble::from(coordinate).text().as_bytes());
    }
}

/// Becomes a ZADD, under which name it also reaches replicas.
fn geoadd(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let mut first = 2;
    let (mut absent, mut present) = (false, false);
    loop {
        if args.is(first, "NX") {
            absent = true;
        } else if args.is(first, "XX") {
            present = true;
        } else if !args.is(first, "CH") {
            break;
        }
        first += 1;
    }
    if !(args.len() - first).is_multiple_of(3) || (absent && present) {
        return Err(error::SYNTAX);
    }
    let mut scores = Vec::with_capacity((args.len() - first) / 3);
    for index in (first..args.len()).step_by(3) {
        scores.push((IntText::new(position(args, index)?.score() as i64), &args[index + 2]));
    }
    let head = [b"ZADD".as_slice()].into_iter().chain(args.from(1).iter().take(first - 1));
    let pairs = scores.iter().flat_map(|(score, member)| [&**score, *member]);
    let zadd = OwnedArgs::new(head.chain(pairs));
    let dirty = ctx.keys.effects.dirty;
    let flow = zset::zadd(ctx, zadd.as_args())?;
    if ctx.keys.effects.dirty > dirty {
        let words: Vec<&[u8]> = zadd.as_args().iter().collect();
        ctx.keys.propagate_as(&words);
    }
    Ok(flow)
}

fn geodist(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let metres = match args.len() {
        4 => 1.0,
        5 => unit(args, 4)?,
        _ => return Err(error::SYNTAX),
    };
    let scores = ctx.keys.read_zset(&args[1])?.map(|zset| (zset.score(&args[2]), zset.score(&args[3])));
    match scores {
        Some((Some(from), Some(to))) => {
            let distance = Position::from_score(from).distance(Position::from_score(to));
            reply_distance(ctx.reply, distance / metres);
        }
        _ => ctx.reply.null(),
    }
    Ok(KeyFlow::Done)
}

fn geohash(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let zset = ctx.keys.read_zset(&args[1])?;
    ctx.reply.array(args.len() - 2);
    for member in args.from(2).iter() {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => ctx.reply.bulk(&Position::from_score(score).geohash()),
            None => ctx.reply.null(),
        }
    }
    Ok(KeyFlow::Done)
}

fn geopos(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    let zset = ctx.keys.read_zset(&args[1])?;
    ctx.reply.array(args.len() - 2);
    for member in args.from(2).iter() {
        match zset.and_then(|zset| zset.score(member)) {
            Some(score) => reply_position(ctx.reply, Position::from_score(score)),
            None => ctx.reply.null_array(),
        }
    }
    Ok(KeyFlow::Done)
}
