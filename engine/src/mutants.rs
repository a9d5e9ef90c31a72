//! Translators broken on purpose: the differential fuzzer must find every one of them.
//!
//! Compiled only with the feature `sabotage`, which nothing but the fuzzer asks for. Most are a pattern in the code of a
//! block and what stands there instead; the others are asked for where they happen, by [`is`].

use core::sync::atomic::{AtomicUsize, Ordering};

use crate::metric::{Metric, Weights};

/// Name, bytes that are looked for, what is written over them from the first on. In both `..` is any byte, left as it
/// is, and `S0` to `S5` are the displacement of a spill slot.
const PATTERNS: &[(&str, &str, &str)] = &[
    ("counter_missing", "65 48 ff 04 25 .. .. .. ..", "90 90 90 90 90 90 90 90 90"),
    ("loop_counter_adds_one", "65 48 83 04 25 .. .. .. ..", ".. .. .. .. .. .. .. .. .. 01"),
    ("loop_counter_subtracts", "65 48 83 04 25", ".. .. .. 2c"),
    ("flag_free_counter_adds_two", "48 8d 40 01 65 48 89", "48 8d 40 02"),
    ("flag_free_counter_changes_flags", "48 8d 40 01 65 48 89", "48 83 c0 01"),
    ("counter_decrements", "65 48 ff 04 25", "65 48 ff 0c 25"),
    (
        "counter_loses_the_register_put_aside",
        "4d 8d 5b 01 65 4c 89 1c 25 .. .. .. .. 65 4c 8b 1c 25 S3",
        ".. .. .. .. .. .. .. .. .. .. .. .. .. 90 90 90 90 90 90 90 90 90",
    ),
    (
        "counter_restores_half_a_register",
        "4d 8d 5b 01 65 4c 89 1c 25 .. .. .. .. 65 4c 8b 1c 25 S3",
        ".. .. .. .. .. .. .. .. .. .. .. .. .. 65 44",
    ),
    ("rep_changes_flags", "48 8d 04 10 65 48 89", "48 01 d0 90"),
    ("rep_counts_ecx", "48 89 c8 48 8d 04 10", "89 c8 90"),
    ("rep_counts_another_register", "89 c8 48 8d 04 10", "89 f8"),
    ("rep_loses_rax", "65 48 8b 04 25 S0 65 48 8b 14 25 S2", "90 90 90 90 90 90 90 90 90"),
    (
        "rep_loses_rdx",
        "65 48 8b 04 25 S0 65 48 8b 14 25 S2",
        ".. .. .. .. .. .. .. .. .. 90 90 90 90 90 90 90 90 90",
    ),
    (
        "rep_stop_is_not_subtracted",
        "48 f7 d0 48 8d 44 10 01 65 48 89",
        ".. .. .. .. .. .. .. .. 65 48 8b",
    ),
    ("rep_stop_is_off_by_one", "48 f7 d0 48 8d 44 10 01", "48 f7 d0 48 8d 44 10 00"),
    ("population_loses_flags", "04 7f 9e 65 48 8b 04 25 S0", "04 7f 90"),
    ("population_loses_overflow", "04 7f 9e 65 48 8b 04 25 S0", "90 90 9e"),
    ("population_loses_rax", "9e 65 48 8b 04 25 S0", "9e 90 90 90 90 90 90 90 90 90"),
    ("population_counts_lanes_that_are_not", "25 .. .. .. .. f3 48 0f b8 c0", "0d"),
    ("population_counts_nothing", "f3 48 0f b8 c0", "31 c0 90 90 90"),
    ("indirect_loses_rcx", "65 48 89 0c 25 S3", "90 90 90 90 90 90 90 90 90"),
    ("return_keeps_arguments", "59 48 8d a4 24", "59 48 8d a4 24 00 00 00 00"),
    ("call_pushes_another_word", "ff 35 .. .. .. .. e9", "ff 34 24 90 90 90"),
    ("ecx_branch_looks_at_rcx", "67 e3 05", "90"),
    ("loop_is_loope", "e2 05 e9", "e1"),
    ("compare_loses_rax", "04 7f 9e 65 48 8b 04 25 S3", ".. .. .. 90 90 90 90 90 90 90 90 90"),
    ("compare_loses_flags", "04 7f 9e 65 48 8b 04 25 S3", ".. .. 90"),
    ("compare_loses_overflow", "04 7f 9e 65 48 8b 04 25 S3", "90 90"),
];

/// Those that are asked for where they happen.
const PLACES: &[&str] = &[
    "flags_are_always_dead",
    "pad_changes_flags",
    "pad_loses_rcx",
    "loop_settles_one_more",
    "condition_inverted",
    "near_operand_off_by_one",
    "far_operand_off_by_eight",
    "far_operand_loses_register",
    "far_source_taken_for_near",
    "repetitions_weigh_nothing",
    "fault_keeps_spilled_register",
    "fault_counts_whole_block",
    "fault_shows_next_instruction",
    "x87_pointer_left_in_the_cache",
];

static COMMITTED: AtomicUsize = AtomicUsize::new(usize::MAX);

/// All names; by a metric's own, whatever counts for it weighs one more.
pub fn names() -> impl Iterator<Item = &'static str> {
    let others = PLACES.iter().copied().chain(Metric::ALL.map(Metric::name));
    PATTERNS.iter().map(|pattern| pattern.0).chain(others)
}

/// From now on this one is in force; `false` when there is none of this name.
pub fn commit(name: &str) -> bool {
    let found = names().position(|known| known == name);
    if let Some(index) = found {
        COMMITTED.store(index, Ordering::Relaxed);
    }
    found.is_some()
}

/// Is this one in force?
pub(crate) fn is(name: &str) -> bool {
    names().nth(COMMITTED.load(Ordering::Relaxed)) == Some(name)
}

/// Breaks the code of a block; `spill_slot` tells the displacement of a spill slot.
pub(crate) fn break_code(code: &mut [u8], spill_slot: fn(usize) -> usize) {
    if is("condition_inverted") {
        for at in 0..code.len().saturating_sub(6) {
            if code[at] == 0x0f && code[at + 1] & 0xf0 == 0x80 && code[at + 6] == 0xe9 {
                code[at + 1] ^= 1;
            }
        }
    }
    let Some((_, from, to)) = PATTERNS.get(COMMITTED.load(Ordering::Relaxed)) else { return };
    let (mut find, mut put) = ([None; 64], [None; 64]);
    let (length, put_length) =
        (parse(from, &mut find, spill_slot), parse(to, &mut put, spill_slot));
    let mut at = 0;
    while at + length.max(put_length) <= code.len() {
        let matches =
            find[..length].iter().zip(&code[at..]).all(|(f, b)| f.is_none_or(|f| f == *b));
        if matches {
            for (byte, new) in code[at..].iter_mut().zip(&put[..put_length]) {
                *byte = new.unwrap_or(*byte);
            }
            at += length;
        } else {
            at += 1;
        }
    }
}

/// Breaks the weights of a block, or of its repetitions.
pub(crate) fn break_weights(weights: &mut Weights, repeated: bool) {
    if repeated {
        if is("repetitions_weigh_nothing") {
            *weights = Weights::default();
        }
        return;
    }
    for (weight, metric) in weights.0.iter_mut().zip(Metric::ALL) {
        if *weight != 0 && is(metric.name()) {
            *weight += 1;
        }
    }
}

/// Reads a pattern; returns its length in bytes.
fn parse(text: &str, into: &mut [Option<u8>; 64], spill_slot: fn(usize) -> usize) -> usize {
    let mut length = 0;
    for word in text.split(' ') {
        if let Some(slot) = word.strip_prefix('S') {
            let slot: usize = slot.parse().expect("a slot's number");
            for byte in (spill_slot(slot) as u32).to_le_bytes() {
                into[length] = Some(byte);
                length += 1;
            }
        } else {
            into[length] = u8::from_str_radix(word, 16).ok();
            length += 1;
        }
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_hexadecimal_or_any() {
        for (name, from, to) in PATTERNS {
            for word in from.split(' ').chain(to.split(' ')) {
                let fine =
                    word == ".." || word.starts_with('S') || u8::from_str_radix(word, 16).is_ok();
                assert!(fine, "{name}: {word}");
            }
        }
        assert!(names().count() >= 30);
    }
}
