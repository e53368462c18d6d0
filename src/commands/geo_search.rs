//! GEOSEARCH and the older GEORADIUS: members of a sorted set within a circle, a box or a polygon.

use super::args;
use super::context::{KeyContext, KeyFlow};
use super::error::{self, CommandError, CommandResult};
use super::flags::Flags;
use super::geo::{position, reply_distance, reply_position, unit};
use super::keyspec::KeySpec;
use super::spec::{Group, KeyCommand, KeyHandler};
use super::zset;
use crate::base::number::{parse_f64, parse_i64};
use crate::engine::geohash::{Position, Shape};
use crate::engine::zset::{ScoreBound, ScoreRange, ZSet};
use crate::resp::Args;

const SEARCH_COMPLEXITY: &str =
    "O(N+log(M)) where N is the number of members in the grid cells around the shape and M the size of the sorted set";

/// GEOSEARCH and its storing form.
const fn search_command(name: &'static str, arity: i32, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, arity, handler).since("6.2.0").group(Group::Geo).complexity(SEARCH_COMPLEXITY)
}

/// The older commands, which may store.
const fn radius_command(name: &'static str, arity: i32, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, arity, handler)
        .since("3.2.0")
        .group(Group::Geo)
        .write()
        .denyoom()
        .flag(Flags::MOVABLE_KEYS)
        .complexity(SEARCH_COMPLEXITY)
}

const SOURCE: &[KeySpec] = &[KeySpec::at(1).ro().access()];

/// Their forms that never do.
const fn radius_ro_command(name: &'static str, arity: i32, handler: KeyHandler) -> KeyCommand {
    KeyCommand::new(name, arity, handler)
        .since("3.2.10")
        .group(Group::Geo)
        .readonly()
        .keys(SOURCE)
        .complexity(SEARCH_COMPLEXITY)
}

/// The source, and the targets behind STORE and STOREDIST, which come after the fixed arguments.
const fn radius_keys(options_at: isize) -> [KeySpec; 3] {
    [
        KeySpec::at(1).ro().access(),
        KeySpec::after("STORE", options_at).ow().update(),
        KeySpec::after("STOREDIST", options_at).ow().update(),
    ]
}

pub const COMMANDS: &[KeyCommand] = &[
    search_command("geosearch", -7, geosearch)
        .readonly()
        .keys(SOURCE)
        .syntax("key <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI> | BYPOLYGON num-vertices longitude latitude [longitude latitude ...]> [ASC | DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]")
        .summary("Finds members within a circle, a box or a polygon."),
    search_command("geosearchstore", -8, geosearchstore)
        .write()
        .denyoom()
        .keys(&[KeySpec::at(1).ow().update(), KeySpec::at(2).ro().access()])
        .syntax("destination source <FROMMEMBER member | FROMLONLAT longitude latitude> <BYRADIUS radius <M | KM | FT | MI> | BYBOX width height <M | KM | FT | MI> | BYPOLYGON num-vertices longitude latitude [longitude latitude ...]> [ASC | DESC] [COUNT count [ANY]] [STOREDIST]")
        .summary("Stores the members within a circle, a box or a polygon."),
    radius_command("georadius", -6, georadius)
        .keys(&const { radius_keys(6) })
        .syntax("key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key] [STOREDIST key]")
        .summary("Finds members within a circle around a position, or stores them."),
    radius_ro_command("georadius_ro", -6, georadius_ro)
        .syntax("key longitude latitude radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]")
        .summary("Finds members within a circle around a position."),
    radius_command("georadiusbymember", -5, georadiusbymember)
        .keys(&const { radius_keys(5) })
        .syntax("key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC] [STORE key] [STOREDIST key]")
        .summary("Finds members within a circle around another member, or stores them."),
    radius_ro_command("georadiusbymember_ro", -5, georadiusbymember_ro)
        .syntax("key member radius <M | KM | FT | MI> [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC | DESC]")
        .summary("Finds members within a circle around another member."),
];

/// Which command asks; they differ in where the options begin and which of them exist.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Radius,
    RadiusReadOnly,
    RadiusByMember,
    RadiusByMemberReadOnly,
    Search,
    SearchStore,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    None,
    Ascending,
    Descending,
}

/// What to search in, with the distances still in the unit of the request.
enum Extent {
    Circle {
        radius: f64,
    },
    Box {
        width: f64,
        height: f64,
    },
    /// Where the first vertex stands, and the end of the last one.
    Polygon {
        from: usize,
        to: usize,
    },
}

struct Query<'a> {
    extent: Option<Extent>,
    metres: f64,
    /// Nothing as well when the key does not exist and the centre would be one of its members.
    centre: Option<Position>,
    from_member: bool,
    from_position: bool,
    with_distance: bool,
    with_hash: bool,
    with_position: bool,
    any: bool,
    count: usize,
    order: Order,
    store: Option<&'a [u8]>,
    store_distance: bool,
    /// Whether STORE and STOREDIST were given.
    store_words: [bool; 2],
}

struct Point {
    member: Vec<u8>,
    position: Position,
    distance: f64,
    score: f64,
}

impl Dialect {
    fn is_search(self) -> bool {
        matches!(self, Dialect::Search | Dialect::SearchStore)
    }

    fn may_store(self) -> bool {
        matches!(self, Dialect::Radius | Dialect::RadiusByMember)
    }

    fn source_at(self) -> usize {
        if self == Dialect::SearchStore { 2 } else { 1 }
    }

    fn event(self) -> &'static str {
        if self == Dialect::SearchStore { "geosearchstore" } else { "georadiusstore" }
    }
}

fn georadius(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    search(ctx, args, Dialect::Radius)
}

fn georadius_ro(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    search(ctx, args, Dialect::RadiusReadOnly)
}

fn georadiusbymember(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    search(ctx, args, Dialect::RadiusByMember)
}

fn georadiusbymember_ro(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    search(ctx, args, Dialect::RadiusByMemberReadOnly)
}

fn geosearch(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    search(ctx, args, Dialect::Search)
}

fn geosearchstore(ctx: &mut KeyContext<'_>, args: Args<'_>) -> Result<KeyFlow, CommandError> {
    search(ctx, args, Dialect::SearchStore)
}

fn search(ctx: &mut KeyContext<'_>, args: Args<'_>, dialect: Dialect) -> Result<KeyFlow, CommandError> {
    let zset = ctx.keys.read_zset(&args[dialect.source_at()])?;
    let query = Query::parse(args, dialect, zset)?;
    let points = match (zset, query.shape(args)?) {
        (Some(zset), Some(shape)) => query.points(zset, &shape),
        _ => Vec::new(),
    };
    match query.store {
        Some(target) => store(ctx, target, &query, dialect, &points),
        None => reply_points(ctx, &query, &points),
    }
    Ok(KeyFlow::Done)
}

fn store(ctx: &mut KeyContext<'_>, target: &[u8], query: &Query<'_>, dialect: Dialect, points: &[Point]) {
    let limits = &ctx.keys.settings.limits;
    let longest = points.iter().map(|point| point.member.len()).max().unwrap_or(0);
    let mut result = ZSet::with_capacity(points.len(), longest, limits);
    for point in points {
        let score = if query.store_distance { point.distance / query.metres } else { point.score };
        result.insert(&point.member, score, limits);
    }
    zset::store(ctx, target, result, dialect.event());
    ctx.keys.effects.dirty += (points.len() as u64).saturating_sub(1);
}

fn reply_points(ctx: &mut KeyContext<'_>, query: &Query<'_>, points: &[Point]) {
    let extras = [query.with_distance, query.with_hash, query.with_position];
    let extras = extras.into_iter().filter(|with| *with).count();
    let reply = &mut *ctx.reply;
    reply.array(points.len());
    for point in points {
        if extras > 0 {
            reply.array(1 + extras);
        }
        reply.bulk(&point.member);
        if query.with_distance {
            reply_distance(reply, point.distance / query.metres);
        }
        if query.with_hash {
            reply.integer(point.score as i64);
        }
        if query.with_position {
            reply_position(reply, point.position);
        }
    }
}

/// A number that is not negative; the errors name what it should be.
fn measure(args: Args<'_>, index: usize, not_numeric: &'static str) -> CommandResult<f64> {
    let text = args::value_of(args, index)?;
    parse_f64(text).ok_or(CommandError::fixed(not_numeric))
}

fn radius(args: Args<'_>, index: usize) -> CommandResult<f64> {
    let radius = measure(args, index, "ERR need numeric radius")?;
    if radius < 0.0 { Err(CommandError::fixed("ERR radius cannot be negative")) } else { Ok(radius) }
}

fn position_of(zset: &ZSet, member: &[u8]) -> CommandResult<Position> {
    let score = zset.score(member).ok_or(CommandError::fixed("ERR could not decode requested zset member"))?;
    Ok(Position::from_score(score))
}

impl<'a> Query<'a> {
    fn parse(args: Args<'a>, dialect: Dialect, zset: Option<&ZSet>) -> CommandResult<Self> {
        let mut query = Query {
            extent: None,
            metres: 1.0,
            centre: None,
            from_member: false,
            from_position: false,
            with_distance: false,
            with_hash: false,
            with_position: false,
            any: false,
            count: 0,
            order: Order::None,
            store: None,
            store_distance: false,
            store_words: [false; 2],
        };
        let mut index = query.parse_fixed(args, dialect, zset)?;
        while index < args.len() {
            index += match query.take_option(args, index, dialect)? {
                Some(taken) => taken,
                None if dialect.is_search() => query.take_shape(args, index, zset)?,
                None => return Err(error::SYNTAX),
            };
        }
        query.check(args, dialect)?;
        if query.count != 0 && query.order == Order::None && !query.any {
            // Without an order "the first ones" would mean nothing.
            query.order = Order::Ascending;
        }
        Ok(query)
    }

    /// The arguments before the options; where the options begin.
    fn parse_fixed(&mut self, args: Args<'a>, dialect: Dialect, zset: Option<&ZSet>) -> CommandResult<usize> {
        match dialect {
            Dialect::Search => Ok(2),
            Dialect::SearchStore => {
                self.store = args.get(1);
                Ok(3)
            }
            Dialect::Radius | Dialect::RadiusReadOnly => {
                self.centre = Some(position(args, 2)?);
                self.extent = Some(Extent::Circle { radius: radius(args, 4)? });
                self.metres = unit(args, 5)?;
                Ok(6)
            }
            Dialect::RadiusByMember | Dialect::RadiusByMemberReadOnly => {
                if let Some(zset) = zset {
                    self.centre = Some(position_of(zset, &args[2])?);
                    self.extent = Some(Extent::Circle { radius: radius(args, 3)? });
                    self.metres = unit(args, 4)?;
                }
                Ok(5)
            }
        }
    }

    /// An option about the results: how many arguments it takes, or nothing if it is none.
    fn take_option(&mut self, args: Args<'a>, index: usize, dialect: Dialect) -> CommandResult<Option<usize>> {
        let next = args.get(index + 1);
        if args.is(index, "WITHDIST") {
            self.with_distance = true;
        } else if args.is(index, "WITHHASH") {
            self.with_hash = true;
        } else if args.is(index, "WITHCOORD") {
            self.with_position = true;
        } else if args.is(index, "ANY") {
            self.any = true;
        } else if args.is(index, "ASC") {
            self.order = Order::Ascending;
        } else if args.is(index, "DESC") {
            self.order = Order::Descending;
        } else if args.is(index, "STOREDIST") && dialect == Dialect::SearchStore {
            self.store_distance = true;
        } else if args.is(index, "COUNT")
            && let Some(text) = next
        {
            let count = args::integer(text)?;
            if count <= 0 {
                return Err(CommandError::fixed("ERR COUNT must be > 0"));
            }
            self.count = count as usize;
            return Ok(Some(2));
        } else if (args.is(index, "STORE") || args.is(index, "STOREDIST")) && dialect.may_store() && next.is_some() {
            self.store_distance = args.is(index, "STOREDIST");
            let given = &mut self.store_words[usize::from(self.store_distance)];
            // Only the first key behind each word is locked, and nobody means to say a word twice.
            if std::mem::replace(given, true) {
                return Err(error::SYNTAX);
            }
            self.store = next;
            return Ok(Some(2));
        } else {
            return Ok(None);
        }
        Ok(Some(1))
    }

    /// An option about the shape: how many arguments it takes.
    fn take_shape(&mut self, args: Args<'a>, index: usize, zset: Option<&ZSet>) -> CommandResult<usize> {
        let more = args.len() - index - 1;
        let is_circle = matches!(self.extent, None | Some(Extent::Circle { .. }));
        let is_box = matches!(self.extent, None | Some(Extent::Box { .. }));
        if args.is(index, "FROMMEMBER") && more >= 1 && !self.from_position {
            if let Some(zset) = zset {
                self.centre = Some(position_of(zset, &args[index + 1])?);
            }
            self.from_member = true;
            Ok(2)
        } else if args.is(index, "FROMLONLAT") && more >= 2 && !self.from_member {
            self.centre = Some(position(args, index + 1)?);
            self.from_position = true;
            Ok(3)
        } else if args.is(index, "BYRADIUS") && more >= 2 && is_circle {
            self.extent = Some(Extent::Circle { radius: radius(args, index + 1)? });
            self.metres = unit(args, index + 2)?;
            Ok(3)
        } else if args.is(index, "BYBOX") && more >= 3 && is_box {
            let width = measure(args, index + 1, "ERR need numeric width")?;
            let height = measure(args, index + 2, "ERR need numeric height")?;
            if width < 0.0 || height < 0.0 {
                return Err(CommandError::fixed("ERR height or width cannot be negative"));
            }
            self.extent = Some(Extent::Box { width, height });
            self.metres = unit(args, index + 3)?;
            Ok(4)
        } else if args.is(index, "BYPOLYGON") && more >= 1 && self.extent.is_none() {
            let vertices = parse_i64(&args[index + 1]).ok_or(error::NOT_AN_INTEGER)?;
            if vertices < 3 {
                return Err(CommandError::fixed("ERR GEOSEARCH BYPOLYGON must have at least 3 vertices"));
            }
            let taken = usize::try_from(vertices).ok().and_then(|vertices| vertices.checked_mul(2));
            let taken = taken.filter(|taken| *taken < more).ok_or(error::SYNTAX)?;
            self.extent = Some(Extent::Polygon { from: index + 2, to: index + 2 + taken });
            Ok(2 + taken)
        } else {
            Err(error::SYNTAX)
        }
    }

    fn check(&self, args: Args<'_>, dialect: Dialect) -> CommandResult<()> {
        if self.store.is_some() && (self.with_distance || self.with_hash || self.with_position) {
            let who = if dialect == Dialect::SearchStore { "GEOSEARCHSTORE" } else { "STORE option in GEORADIUS" };
            return Err(CommandError::new(format!(
                "ERR {who} is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
            )));
        }
        if dialect.is_search() {
            let has_centre = self.from_member || self.from_position;
            if has_centre == matches!(self.extent, Some(Extent::Polygon { .. })) {
                let text = b"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for ";
                return Err(CommandError::joined(&[text, &args[0]]));
            }
            if self.extent.is_none() {
                let text = b"ERR exactly one of BYRADIUS and BYBOX can be specified for ";
                return Err(CommandError::joined(&[text, &args[0]]));
            }
        }
        if self.any && self.count == 0 {
            return Err(CommandError::fixed("ERR the ANY argument requires COUNT argument"));
        }
        Ok(())
    }

    /// The shape in metres, if its centre is known.
    fn shape(&self, args: Args<'_>) -> CommandResult<Option<Shape>> {
        let metres = self.metres;
        Ok(match (&self.extent, self.centre) {
            (Some(Extent::Circle { radius }), Some(centre)) => Some(Shape::Circle { centre, radius: radius * metres }),
            (Some(Extent::Box { width, height }), Some(centre)) => {
                Some(Shape::Box { centre, width: width * metres, height: height * metres })
            }
            (Some(Extent::Polygon { from, to }), _) => {
                let vertices = (*from..*to).step_by(2).map(|index| position(args, index));
                Some(Shape::polygon(vertices.collect::<CommandResult<_>>()?))
            }
            (None, _) | (_, None) => None,
        })
    }

    /// The members within the shape, in the order and number asked for.
    fn points(&self, zset: &ZSet, shape: &Shape) -> Vec<Point> {
        let mut points = Vec::new();
        let limit = if self.any { self.count } else { usize::MAX };
        'ranges: for scores in shape.score_ranges() {
            let range = ScoreRange {
                min: ScoreBound::Inclusive(scores.start as f64),
                max: ScoreBound::Exclusive(scores.end as f64),
            };
            for (member, score) in zset.range(zset.score_ranks(&range)) {
                let position = Position::from_score(score);
                if let Some(distance) = shape.distance_within(position) {
                    let member = member.with_bytes(<[u8]>::to_vec);
                    points.push(Point { member, position, distance, score });
                    if points.len() >= limit {
                        break 'ranges;
                    }
                }
            }
        }
        match self.order {
            Order::None => {}
            Order::Ascending => points.sort_by(|a, b| a.distance.total_cmp(&b.distance)),
            Order::Descending => points.sort_by(|a, b| b.distance.total_cmp(&a.distance)),
        }
        if self.count > 0 {
            points.truncate(self.count);
        }
        points
    }
}
