//! What counts are worth.

use core::sync::atomic::{AtomicU64, Ordering};

use ::weights::x86 as weights;
use iced_x86::{Instruction, InstructionInfoFactory};

use crate::metric::{METRICS, Totals, Weights};

/// What counters are worth: the sum of counts times weights.
pub fn weigh(weights: &[Weights], counters: &[AtomicU64]) -> Totals {
    let mut totals = [0u64; METRICS];
    for (weights, counter) in weights.iter().zip(counters) {
        let count = counter.load(Ordering::Relaxed);
        if count != 0 {
            for (sum, &weight) in totals.iter_mut().zip(&weights.0) {
                *sum = sum.wrapping_add(count.wrapping_mul(u64::from(weight)));
            }
        }
    }
    totals
}

/// The weights of a block's instructions, summed; dynamic parts are passed to `dynamic`.
pub fn sum_weights(
    instructions: &[Instruction],
    factory: &mut InstructionInfoFactory,
    mut dynamic: impl FnMut(usize, weights::InstructionWeights),
) -> Weights {
    let mut sum = Weights::default();
    for (i, instruction) in instructions.iter().enumerate() {
        let w = weights::of_instruction(instruction, factory);
        sum.accumulate(&w.fixed);
        if w.repeats != weights::Repeats::Never {
            dynamic(i, w);
        }
    }
    sum
}
