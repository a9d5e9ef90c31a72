//! The static metrics: what one execution of an instruction adds to each count.
//!
//! A new one is one row in the crate `metrics` and one weight in [`crate::x86`], nothing else.

pub use metrics::{ENGINE_COUNT as METRICS, EngineMetric as Metric};

/// Totals of all static metrics, indexed by [`Metric`].
pub type Totals = [u64; METRICS];

/// What one unit of a counter slot (one execution of a block, one iteration of a REP instruction) adds.
///
/// Sixteen bits are enough: the largest access of one instruction is a tile of 1,024 bytes (SDM vol. 1, 18.1), and a
/// block has at most 48 instructions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights(pub [u16; METRICS]);

impl Weights {
    /// Adds `by` to one metric.
    pub fn add(&mut self, metric: Metric, by: u16) {
        let weight = &mut self.0[metric as usize];
        *weight = weight.saturating_add(by);
    }

    /// Adds another instruction's weights.
    pub fn accumulate(&mut self, other: &Weights) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine = mine.saturating_add(theirs);
        }
    }
}
