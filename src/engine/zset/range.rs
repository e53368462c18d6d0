//! Bounds of ranges by score and by member.

/// One bound of a range by score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ScoreBound {
    Inclusive(f64),
    Exclusive(f64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreRange {
    pub min: ScoreBound,
    pub max: ScoreBound,
}

impl ScoreBound {
    /// As the lower bound.
    #[inline]
    pub fn admits_from_below(&self, score: f64) -> bool {
        match self {
            ScoreBound::Inclusive(bound) => score >= *bound,
            ScoreBound::Exclusive(bound) => score > *bound,
        }
    }

    /// As the upper bound.
    #[inline]
    pub fn admits_from_above(&self, score: f64) -> bool {
        match self {
            ScoreBound::Inclusive(bound) => score <= *bound,
            ScoreBound::Exclusive(bound) => score < *bound,
        }
    }
}

impl ScoreRange {
    pub fn contains(&self, score: f64) -> bool {
        self.min.admits_from_below(score) && self.max.admits_from_above(score)
    }
}

/// One bound of a range by member: `-`, `+`, `[member`, `(member`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'a> {
    Min,
    Max,
    Inclusive(&'a [u8]),
    Exclusive(&'a [u8]),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LexRange<'a> {
    pub min: LexBound<'a>,
    pub max: LexBound<'a>,
}

impl LexBound<'_> {
    /// As the lower bound.
    #[inline]
    pub fn admits_from_below(&self, member: &[u8]) -> bool {
        match self {
            LexBound::Min => true,
            LexBound::Max => false,
            LexBound::Inclusive(bound) => member >= *bound,
            LexBound::Exclusive(bound) => member > *bound,
        }
    }

    /// As the upper bound.
    #[inline]
    pub fn admits_from_above(&self, member: &[u8]) -> bool {
        match self {
            LexBound::Min => false,
            LexBound::Max => true,
            LexBound::Inclusive(bound) => member <= *bound,
            LexBound::Exclusive(bound) => member < *bound,
        }
    }
}
