//! Any bytes as an event log: reading never panics; merging a log with itself or a part of itself, in either
//! order, gives the same application, and so do its pieces, of whatever size.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

/// The analyzer's own modules: it is a program, not a library.
#[allow(dead_code, unused_imports)]
#[path = "../../src/eventlog/mod.rs"]
mod eventlog;

use eventlog::{Application, Log};

fuzz_target!(|input: &[u8]| {
    let whole = read(input, usize::MAX);
    assert_eq!(read(input, 1), whole);
    assert_eq!(read(input, 2000), whole);
    let part = read(&input[..input.len() / 2], usize::MAX);
    for (whole, part) in whole.iter().zip(&part) {
        let merged = |one: &Application, other: &Application| {
            let mut merged = one.clone();
            merged.merge(other.clone());
            merged
        };
        assert_eq!(merged(whole, part), merged(part, whole));
        let once = merged(&Application::default(), whole);
        assert_eq!(merged(&once, whole), once);
    }
});

/// The applications of a log that is read in pieces of so many bytes of lines, as far as it can be read.
fn read(bytes: &[u8], piece_bytes: usize) -> Vec<Application> {
    let mut log = Log::of(Path::new("input"), Box::new(bytes), &|_| {});
    let mut applications = Vec::new();
    let mut building = Application::default();
    while let Ok(Some(piece)) = log.next_piece(piece_bytes) {
        building.merge(piece.application);
        if piece.is_last {
            applications.push(std::mem::take(&mut building));
        }
    }
    applications
}
