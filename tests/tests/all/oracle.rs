//! The oracle's own proof: the stepper against programs whose length is known by hand.

use records::metric::EngineMetric;
use tests::build::{Linking, Source};
use tests::stepper::{self, Count, Start};

/// What one pass of the program costs: three passes minus two.
fn one_pass(name: &str, linking: Linking) -> Count {
    let program = Source::named(name).build(linking);
    let counts = ["2", "3"].map(|n| {
        let stepped =
            stepper::count(&program, &[n], Start::Symbol("sa_begin")).expect("the stepper runs");
        assert!(stepped.status.success(), "{name}: {:?}", stepped.status);
        stepped.count
    });
    counts[1].minus(&counts[0])
}

/// The frame's own loop around a call of `pass`, measured with a `pass` of known length.
fn frame_cost() -> u64 {
    let whole = one_pass("tight_loop.S", Linking::Pie);
    whole.instructions() - 2003
}

#[test]
fn loop_of_known_length() {
    for linking in [Linking::Pie, Linking::Fixed] {
        let whole = one_pass("tight_loop.S", linking);
        // The frame adds its loop: set-up of the argument, call, increment, compare, branch.
        assert!((2003 + 4..=2003 + 8).contains(&whole.instructions()), "{whole:?}");
        assert_eq!(whole.instructions(), whole.steps, "no artefacts in plain code");
        assert_eq!(
            (whole[EngineMetric::MemoryReads], whole[EngineMetric::MemoryWrites]),
            (1, 1),
            "call and ret"
        );
    }
}

#[test]
fn artefacts_are_corrected() {
    let frame = frame_cost();
    let whole = one_pass("artefacts.S", Linking::Pie);
    // Counted by hand in artefacts.S.
    assert_eq!(whole.instructions() - frame, 32, "{whole:?}");
    assert_ne!(whole.steps, whole.instructions(), "the artefacts are there");
    assert_eq!(whole[EngineMetric::Barriers], 0);
}
