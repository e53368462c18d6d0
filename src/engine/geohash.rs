//! Positions on the globe as 52-bit geohashes, and which scores may lie within a shape.
//!
//! ```text
//!   26 bits of longitude and 26 of latitude, interleaved; the longitude's bits are the odd ones:
//!   … lon 1  lat 1  lon 0  lat 0
//! ```
//! Cells of a coarser grid are prefixes, so a cell is a range of scores in a sorted set. A search looks at the cell of its
//! centre and the eight around it, at the finest step at which these nine cover the shape.

use std::ops::Range;

pub const LONGITUDE_MAX: f64 = 180.0;
/// Mercator's square ends there.
pub const LATITUDE_MAX: f64 = 85.051_128_78;
const STEP_MAX: u32 = 26;
const EARTH_RADIUS_M: f64 = 6_372_797.560_856;
const MERCATOR_MAX_M: f64 = 20_037_726.37;
const RADIANS_PER_DEGREE: f64 = std::f64::consts::PI / 180.0;
const ALPHABET: &[u8; 32] = b"0123456789bcdefghjkmnpqrstuvwxyz";

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Position {
    pub longitude: f64,
    pub latitude: f64,
}

impl Position {
    /// The score that stands for this position.
    pub fn score(self) -> u64 {
        Cell::of(self, STEP_MAX).bits
    }

    /// The middle of the smallest cell.
    pub fn from_score(score: f64) -> Self {
        let area = Cell { bits: score as u64, step: STEP_MAX }.area();
        let middle = |range: Span, limit: f64| ((range.min + range.max) / 2.0).clamp(-limit, limit);
        Position { longitude: middle(area.longitude, LONGITUDE_MAX), latitude: middle(area.latitude, LATITUDE_MAX) }
    }

    /// The usual text of eleven characters. It counts latitudes from the poles, unlike the scores.
    pub fn geohash(self) -> [u8; 11] {
        let bits = interleave(fixed_point(self.latitude, 90.0, 26), fixed_point(self.longitude, 180.0, 26));
        // The 52 bits fill ten characters; the eleventh is zero.
        std::array::from_fn(|at| {
            let index = if at == 10 { 0 } else { bits >> (52 - (at + 1) * 5) & 31 };
            ALPHABET[index as usize]
        })
    }

    /// Metres along the great circle (haversine).
    pub fn distance(self, other: Position) -> f64 {
        let (from, to) = (self, other);
        let v = ((radians(to.longitude) - radians(from.longitude)) / 2.0).sin();
        if v == 0.0 {
            return latitude_distance(from.latitude, to.latitude);
        }
        let (from_latitude, to_latitude) = (radians(from.latitude), radians(to.latitude));
        let u = ((to_latitude - from_latitude) / 2.0).sin();
        let a = u * u + from_latitude.cos() * to_latitude.cos() * v * v;
        2.0 * EARTH_RADIUS_M * a.sqrt().asin()
    }
}

fn radians(degrees: f64) -> f64 {
    degrees * RADIANS_PER_DEGREE
}

fn degrees(radians: f64) -> f64 {
    radians / RADIANS_PER_DEGREE
}

fn latitude_distance(from: f64, to: f64) -> f64 {
    EARTH_RADIUS_M * (radians(to) - radians(from)).abs()
}

/// What to search in, in metres and degrees.
#[derive(Clone, Debug, PartialEq)]
pub enum Shape {
    Circle {
        centre: Position,
        radius: f64,
    },
    /// Sides along the meridians and parallels.
    Box {
        centre: Position,
        width: f64,
        height: f64,
    },
    /// Vertices in order; the last is joined to the first. The centre is that of its bounding box.
    Polygon {
        centre: Position,
        vertices: Vec<Position>,
        bounds: Area,
    },
}

impl Shape {
    pub fn polygon(vertices: Vec<Position>) -> Self {
        let span = |coordinate: fn(&Position) -> f64| Span {
            min: vertices.iter().map(coordinate).fold(f64::INFINITY, f64::min),
            max: vertices.iter().map(coordinate).fold(f64::NEG_INFINITY, f64::max),
        };
        let bounds = Area { longitude: span(|at| at.longitude), latitude: span(|at| at.latitude) };
        let centre = Position {
            longitude: (bounds.longitude.min + bounds.longitude.max) / 2.0,
            latitude: (bounds.latitude.min + bounds.latitude.max) / 2.0,
        };
        Shape::Polygon { centre, vertices, bounds }
    }

    pub fn centre(&self) -> Position {
        match self {
            Shape::Circle { centre, .. } | Shape::Box { centre, .. } | Shape::Polygon { centre, .. } => *centre,
        }
    }

    /// The distance of a position from the centre, if it lies within the shape.
    pub fn distance_within(&self, position: Position) -> Option<f64> {
        match self {
            Shape::Circle { centre, radius } => Some(centre.distance(position)).filter(|distance| distance <= radius),
            Shape::Box { centre, width, height } => {
                if latitude_distance(position.latitude, centre.latitude) > height / 2.0 {
                    return None;
                }
                let beside = Position { longitude: centre.longitude, latitude: position.latitude };
                (position.distance(beside) <= width / 2.0).then(|| centre.distance(position))
            }
            Shape::Polygon { centre, vertices, bounds } => {
                (bounds.contains(position) && is_inside(vertices, position)).then(|| centre.distance(position))
            }
        }
    }

    /// The rectangle around the shape. Parallels are shorter towards the pole, so the wider side decides.
    fn bounds(&self) -> Area {
        let (centre, half_width, half_height) = match self {
            Shape::Polygon { bounds, .. } => return *bounds,
            Shape::Circle { centre, radius } => (centre, *radius, *radius),
            Shape::Box { centre, width, height } => (centre, width / 2.0, height / 2.0),
        };
        let latitude_delta = degrees(half_height / EARTH_RADIUS_M);
        let outward = if centre.latitude < 0.0 { -latitude_delta } else { latitude_delta };
        let longitude_delta = degrees(half_width / EARTH_RADIUS_M / radians(centre.latitude + outward).cos());
        Area {
            longitude: Span { min: centre.longitude - longitude_delta, max: centre.longitude + longitude_delta },
            latitude: Span { min: centre.latitude - latitude_delta, max: centre.latitude + latitude_delta },
        }
    }

    /// The radius of a circle around everything.
    fn reach(&self) -> f64 {
        match self {
            Shape::Circle { radius, .. } => *radius,
            Shape::Box { width, height, .. } => ((width / 2.0).powi(2) + (height / 2.0).powi(2)).sqrt(),
            Shape::Polygon { centre, vertices, .. } => {
                vertices.iter().map(|vertex| centre.distance(*vertex)).fold(0.0, f64::max)
            }
        }
    }

    /// Ranges of scores in which everything within the shape lies, the centre's first.
    pub fn score_ranges(&self) -> Vec<Range<u64>> {
        let (bounds, centre) = (self.bounds(), self.centre());
        let mut step = estimated_step(self.reach(), centre.latitude);
        let mut cell = Cell::of(centre, step);
        let area_beside = |cell: Cell, east, north| cell.neighbour(east, north).area();
        let is_too_fine = area_beside(cell, 0, 1).latitude.max < bounds.latitude.max
            || area_beside(cell, 0, -1).latitude.min > bounds.latitude.min
            || area_beside(cell, 1, 0).longitude.max < bounds.longitude.max
            || area_beside(cell, -1, 0).longitude.min > bounds.longitude.min;
        if step > 1 && is_too_fine {
            step -= 1;
            cell = Cell::of(centre, step);
        }
        let area = cell.area();
        // Redis's order; results without sorting come in it.
        let around = [(0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1)];
        let is_useless = |(east, north): (i32, i32)| {
            step >= 2
                && ((north < 0 && area.latitude.min < bounds.latitude.min)
                    || (north > 0 && area.latitude.max > bounds.latitude.max)
                    || (east < 0 && area.longitude.min < bounds.longitude.min)
                    || (east > 0 && area.longitude.max > bounds.longitude.max))
        };
        let mut ranges: Vec<Range<u64>> = Vec::with_capacity(9);
        for direction in around.into_iter().filter(|direction| !is_useless(*direction)) {
            // With huge cells neighbours are the same on both sides.
            let range = cell.neighbour(direction.0, direction.1).scores();
            if !ranges.contains(&range) {
                ranges.push(range);
            }
        }
        ranges
    }
}

/// The finest step at which nine cells should cover a circle; cells are narrow near the poles.
fn estimated_step(radius: f64, latitude: f64) -> u32 {
    if radius == 0.0 {
        return STEP_MAX;
    }
    let mut step = 1;
    let mut reach = radius;
    while reach < MERCATOR_MAX_M {
        reach *= 2.0;
        step += 1;
    }
    step -= 2;
    if latitude.abs() > 66.0 {
        step -= 1;
    }
    if latitude.abs() > 80.0 {
        step -= 1;
    }
    step.clamp(1, STEP_MAX as i32) as u32
}

/// Whether an odd number of edges lie to the east.
fn is_inside(vertices: &[Position], position: Position) -> bool {
    let Some(mut from) = vertices.last() else { return false };
    let mut inside = false;
    for to in vertices {
        if (to.latitude > position.latitude) != (from.latitude > position.latitude) {
            let part = (position.latitude - to.latitude) / (from.latitude - to.latitude);
            let crossing = to.longitude + part * (from.longitude - to.longitude);
            inside ^= position.longitude < crossing;
        }
        from = to;
    }
    inside
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    pub min: f64,
    pub max: f64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    pub longitude: Span,
    pub latitude: Span,
}

impl Area {
    fn contains(&self, position: Position) -> bool {
        (self.longitude.min..=self.longitude.max).contains(&position.longitude)
            && (self.latitude.min..=self.latitude.max).contains(&position.latitude)
    }
}

/// A cell of the grid with 2^step rows and columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell {
    bits: u64,
    step: u32,
}

impl Cell {
    fn of(position: Position, step: u32) -> Self {
        let latitude = fixed_point(position.latitude, LATITUDE_MAX, step);
        let longitude = fixed_point(position.longitude, LONGITUDE_MAX, step);
        Cell { bits: interleave(latitude, longitude), step }
    }

    fn area(self) -> Area {
        let cells = (1u64 << self.step) as f64;
        let span = |index: u32, limit: f64| {
            let scale = limit - -limit;
            Span {
                min: -limit + f64::from(index) / cells * scale,
                max: -limit + (f64::from(index) + 1.0) / cells * scale,
            }
        };
        Area {
            latitude: span(every_second_bit(self.bits), LATITUDE_MAX),
            longitude: span(every_second_bit(self.bits >> 1), LONGITUDE_MAX),
        }
    }

    /// The cell so many columns to the east and rows to the north, around the globe's edges. The very edge (180° and the
    /// northernmost parallel) belongs to a column and row beyond the last one, which only a step brings back, as in Redis.
    fn neighbour(self, east: i32, north: i32) -> Self {
        let mask = u32::MAX >> (32 - self.step);
        let step = |index: u32, by: i32| if by == 0 { index } else { index.wrapping_add_signed(by) & mask };
        let latitude = step(every_second_bit(self.bits), north);
        let longitude = step(every_second_bit(self.bits >> 1), east);
        Cell { bits: interleave(latitude, longitude), step: self.step }
    }

    fn scores(self) -> Range<u64> {
        let shift = 2 * (STEP_MAX - self.step);
        self.bits << shift..(self.bits + 1) << shift
    }
}

/// A coordinate as a fraction of its range in `bits` bits.
fn fixed_point(coordinate: f64, limit: f64, bits: u32) -> u32 {
    let fraction = (coordinate - -limit) / (limit - -limit);
    (fraction * (1u64 << bits) as f64) as u32
}

/// The bits of two numbers in turn; those of `even` are the even ones.
fn interleave(even: u32, odd: u32) -> u64 {
    spread(even) | spread(odd) << 1
}

/// Moves bit n to bit 2n.
fn spread(value: u32) -> u64 {
    let mut spread = u64::from(value);
    for (shift, mask) in [
        (16, 0x0000_ffff_0000_ffff),
        (8, 0x00ff_00ff_00ff_00ff),
        (4, 0x0f0f_0f0f_0f0f_0f0f),
        (2, 0x3333_3333_3333_3333),
        (1, 0x5555_5555_5555_5555),
    ] {
        spread = (spread | spread << shift) & mask;
    }
    spread
}

/// Moves bit 2n to bit n.
fn every_second_bit(value: u64) -> u32 {
    let mut packed = value & 0x5555_5555_5555_5555;
    for (shift, mask) in [
        (1, 0x3333_3333_3333_3333),
        (2, 0x0f0f_0f0f_0f0f_0f0f),
        (4, 0x00ff_00ff_00ff_00ff),
        (8, 0x0000_ffff_0000_ffff),
        (16, 0x0000_0000_ffff_ffff),
    ] {
        packed = (packed | packed >> shift) & mask;
    }
    packed as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PALERMO: Position = Position { longitude: 13.361389, latitude: 38.115556 };
    const CATANIA: Position = Position { longitude: 15.087269, latitude: 37.502669 };

    #[test]
    fn the_documented_examples() {
        assert_eq!(PALERMO.score(), 3479099956230698);
        assert_eq!(&Position::from_score(3479099956230698.0).geohash(), b"sqc8b49rny0");
        let stored = |at: Position| Position::from_score(at.score() as f64);
        let distance = stored(PALERMO).distance(stored(CATANIA));
        assert!((distance - 166_274.151_6).abs() < 0.0001, "{distance}");
    }

    #[test]
    fn polygons() {
        let corner = |longitude, latitude| Position { longitude, latitude };
        let shape = Shape::polygon(vec![corner(0.0, 0.0), corner(10.0, 0.0), corner(10.0, 10.0), corner(5.0, 2.0)]);
        assert!(shape.distance_within(corner(9.0, 1.0)).is_some());
        assert!(shape.distance_within(corner(5.0, 5.0)).is_none());
        assert!(shape.distance_within(corner(11.0, 1.0)).is_none());
    }

    proptest! {
        #[test]
        fn a_circle_finds_what_is_near(longitude in -170.0..170.0, latitude in -70.0..70.0, east in -0.5..0.5, north in -0.5..0.5) {
            let centre = Position { longitude, latitude };
            let point = Position { longitude: longitude + east, latitude: latitude + north };
            let stored = Position::from_score(point.score() as f64);
            let shape = Shape::Circle { centre, radius: centre.distance(stored) + 1.0 };
            prop_assert!(shape.distance_within(stored).is_some());
            prop_assert!(shape.score_ranges().iter().any(|range| range.contains(&point.score())));
        }

        #[test]
        fn bits_interleave(even: u32, odd: u32) {
            let bits = interleave(even, odd);
            prop_assert_eq!((every_second_bit(bits), every_second_bit(bits >> 1)), (even, odd));
        }
    }
}
