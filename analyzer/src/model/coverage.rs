//! How much of something the engine counted.

use records::{Flags, MetricSet};

use crate::model::counts::Counts;

/// In column `engine`: the engine counted all of it.
pub const ENGINE_EXACT: &str = "exact";
/// In column `engine`: the engine counted a part of it; its metrics are lower bounds.
pub const ENGINE_PARTIAL: &str = "partial";
/// In column `engine`: the engine counted nothing of it; its metrics are null.
pub const ENGINE_NONE: &str = "none";

/// How much of something the engine counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coverage {
    /// All of it.
    Exact,
    /// A part: the engine's metrics are lower bounds.
    Partial,
    /// Nothing: the engine's metrics are unknown.
    None,
}

impl Coverage {
    /// The text in the column `engine`.
    pub fn name(self) -> &'static str {
        match self {
            Coverage::Exact => ENGINE_EXACT,
            Coverage::Partial => ENGINE_PARTIAL,
            Coverage::None => ENGINE_NONE,
        }
    }

    /// Of a thread whose records carried these flags.
    pub fn of(flags: Flags) -> Coverage {
        if flags.contains(Flags::WAS_RELEASED) {
            Coverage::Partial
        } else if flags.contains(Flags::FOLLOWED) {
            Coverage::Exact
        } else {
            Coverage::None
        }
    }

    /// Removes what would be a wrong zero: an engine's counter that nobody advanced.
    pub fn apply(self, counters: &mut Counts) {
        match self {
            Coverage::Exact => {}
            Coverage::Partial => counters.forget_zeros(MetricSet::ENGINE),
            Coverage::None => counters.forget(MetricSet::ENGINE),
        }
    }
}
