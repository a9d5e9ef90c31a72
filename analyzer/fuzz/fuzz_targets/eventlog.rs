//! Any bytes as an event log: reading never panics, and merging a log with itself or a part of itself, in
//! either order, gives the same application.

#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

/// The analyzer's own modules: it is a program, not a library.
#[allow(dead_code, unused_imports)]
#[path = "../../src/eventlog/mod.rs"]
mod eventlog;

use eventlog::Application;

fuzz_target!(|input: &[u8]| {
    let whole = read(input);
    let part = read(&input[..input.len() / 2]);
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

fn read(bytes: &[u8]) -> Vec<Application> {
    let log = eventlog::reader::read_from(Path::new("input"), &mut &bytes[..], &|_| {});
    log.map(|log| log.applications).unwrap_or_default()
}
