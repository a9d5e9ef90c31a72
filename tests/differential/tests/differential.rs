//! The differential fuzzer: a fixed seed, what it found before, and translators broken on purpose.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The optimised program of `./run build` where there is one.
fn program() -> PathBuf {
    let built = std::env::var_os("SPARKANALYZER_TEST_BIN")
        .map(|directory| PathBuf::from(directory).join("differential"));
    built
        .filter(|path| path.is_file())
        .unwrap_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_differential")))
}

fn run(arguments: &[&str]) -> Output {
    run_for(300, 300, arguments)
}

/// Ended after some seconds of CPU time, and after some of waiting, whichever comes first.
fn run_for(cpu_seconds: u64, seconds: u64, arguments: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.args(["-k", "2", &seconds.to_string()]).arg(program()).args(arguments);
    let limit = libc::rlimit { rlim_cur: cpu_seconds, rlim_max: cpu_seconds };
    // SAFETY: the closure makes one system call, with memory of its own.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_CPU, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        });
    }
    command.output().expect("timeout(1) of coreutils")
}

fn text(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}{}{}", output.status, String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

#[test]
fn sequences_leave_the_same_state_and_counts() {
    let output = run(&["--seed", "1", "--sequences", "20000"]);
    println!("{}", text(&output));
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn what_was_found_once_stays_right() {
    let vectors = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors.txt");
    let output = run(&["--vectors", vectors]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn every_broken_translator_is_found() {
    let whole = run(&["--seed", "7", "--sequences", "40000"]);
    assert!(whole.status.success(), "not broken, and yet: {}", text(&whole));
    let list = run(&["--list-sabotages"]);
    let names = String::from_utf8(list.stdout).expect("names");
    assert!(names.lines().count() >= 30, "{names}");
    let names: Vec<&str> = names.lines().collect();
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    is_found(name);
                }
            });
        }
    });
}

/// A broken translator may do anything: one that hangs is found too. The sound one takes some 5 s of CPU time.
fn is_found(name: &str) {
    const WRONG_COMMAND_LINE: i32 = 2;
    let arguments = ["--seed", "7", "--sequences", "40000", "--sabotage", name];
    let output = run_for(20, 120, &arguments);
    assert_ne!(output.status.code(), Some(WRONG_COMMAND_LINE), "{}", text(&output));
    assert!(!output.status.success(), "{name} was not found");
}

/// The long run: `FUZZ_SEQUENCES` from `FUZZ_FROM` on, of `FUZZ_SEED`.
#[test]
#[ignore = "hours: ./run fuzz differential or ./run soak"]
fn many_sequences() {
    let setting = |name: &str, default: &str| std::env::var(name).unwrap_or(default.to_string());
    let sequences = setting("FUZZ_SEQUENCES", "10000000");
    let (seed, from) = (setting("FUZZ_SEED", "1"), setting("FUZZ_FROM", "0"));
    let arguments = ["--sequences", &sequences, "--seed", &seed, "--from", &from, "--table"];
    let status = Command::new(program()).args(arguments).status().expect("the fuzzer starts");
    assert!(status.success(), "seed {seed}: {status}");
}
