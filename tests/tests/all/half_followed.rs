//! A process of which one thread runs natively and another is followed: handlers and code are common to both.

use tests::artifacts;
use tests::preloaded::compile;
use tests::run::{self, Tracing};

#[test]
fn handlers_and_code_are_common() {
    let test = "handlers_and_code_are_common";
    let Some(artifacts) = artifacts::need(test) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "half_followed.c", directory.path(), &["-O1", "-pthread"]);
    let native = run::native(&program, &[]).expect("starts natively");
    let expected = String::from_utf8_lossy(&native.captured.stdout).into_owned();
    assert!(expected.ends_with("stale code: 0\n"), "{expected}");
    let traced = Tracing::default().run(&artifacts, &program, &[]).expect("starts traced");
    assert_eq!(String::from_utf8_lossy(&traced.captured.stdout), expected);
    assert!(!traced.complete(), "one thread is released, or nothing is shown");
}
