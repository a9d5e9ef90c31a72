//! What a program does natively it does under `trace`: the same output and exit status, and `complete` only where
//! nothing is missing. Here: what a program sees of itself, of its threads and of its memory.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use tests::artifacts;
use tests::guest::{self, ANY, Failures, Guest, compare, compare_all, file};
use tests::skip::skip;

#[test]
fn one_thread_is_one_thread() {
    let Some(artifacts) = artifacts::need("one_thread_is_one_thread") else { return };
    compare_all(
        &artifacts,
        &[("thread_numbers", ANY.processes(6)), ("numbers_in_namespace", ANY.processes(6))],
    );
}

/// CPython 3.12 warns of a fork in a process of several threads, which the program makes an error.
#[test]
fn python_forks_without_a_warning() {
    const TEST: &str = "python_forks_without_a_warning";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let script = file("fork_warning.py");
    let script = script.to_str().expect("UTF-8");
    let mut failures = Failures::default();
    let mut newest = 0;
    for interpreter in interpreters() {
        let guest = Guest::new(Path::new(&interpreter), &["-S", script]);
        let version = Guest::new(
            Path::new(&interpreter),
            &["-S", "-c", "import sys; print(sys.version_info[1])"],
        );
        let version = String::from_utf8_lossy(&version.native().stdout).trim().parse().unwrap_or(0);
        newest = newest.max(version);
        failures.add(&interpreter, compare(&artifacts, &guest, ANY.complete().processes(5)));
    }
    failures.finish();
    if newest < 12 {
        skip(TEST, "no CPython 3.12 or newer; the older ones that are here were compared");
    }
}

/// The system's python3, the newest of pyenv's, and the one that a variable names.
fn interpreters() -> Vec<String> {
    let mut found: Vec<String> = vec!["/usr/bin/python3".to_owned()];
    let home = std::env::var("HOME").unwrap_or_default();
    for version in ["3.12", "3.13", "3.14"] {
        let versions = std::fs::read_dir(format!("{home}/.pyenv/versions")).into_iter().flatten();
        let matching = versions.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(version))
        });
        found.extend(matching.map(|path| path.join("bin/python3").display().to_string()));
    }
    found.extend(std::env::var("SPARKANALYZER_TEST_PYTHON"));
    found.retain(|path| Path::new(path).exists());
    found
}

#[test]
fn fields_of_signals_hold_the_programs_addresses() {
    let Some(artifacts) = artifacts::need("fields_of_signals_hold_the_programs_addresses") else {
        return;
    };
    compare_all(&artifacts, &[("fault_fields", ANY)]);
}

#[test]
fn clocks_that_are_taken_away() {
    let Some(artifacts) = artifacts::need("clocks_that_are_taken_away") else { return };
    compare_all(
        &artifacts,
        &[
            ("no_tsc write", ANY),
            ("no_tsc fork", ANY.processes(2)),
            ("no_tsc thread", ANY),
            ("no_tsc rdtsc", ANY),
            ("unmap_vdso write", ANY),
            ("unmap_vdso fork", ANY.processes(2)),
            ("unmap_vdso thread", ANY),
            ("unmap_vdso signal", ANY),
            ("unmap_vdso long", ANY.instructions(3_000_000_000)),
        ],
    );
}

#[test]
fn system_calls_dispatched_to_the_program() {
    let Some(artifacts) = artifacts::need("system_calls_dispatched_to_the_program") else { return };
    compare_all(&artifacts, &[("user_dispatch", ANY), ("user_dispatch again", ANY)]);
}

#[test]
fn code_in_the_middle_of_large_reservations() {
    let Some(artifacts) = artifacts::need("code_in_the_middle_of_large_reservations") else {
        return;
    };
    let mut cases = Vec::new();
    for gib in [1, 4, 16, 64, 1024] {
        for mode in ["x", "w", "low", "high", "many"] {
            cases.push(format!("code_in_reservation {gib} {mode}"));
        }
    }
    let cases: Vec<_> = cases.iter().map(|line| (line.as_str(), ANY.complete())).collect();
    compare_all(&artifacts, &cases);
}

/// WebAssembly lies in the middle of a reservation of 10 GiB.
#[test]
fn node_with_web_assembly() {
    const TEST: &str = "node_with_web_assembly";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let node =
        ["/usr/bin/node", "/usr/local/bin/node"].into_iter().find(|path| Path::new(path).exists());
    let Some(node) = node else { return skip(TEST, "node is not installed") };
    // (module (func (export "f") (param i32) (result i32) local.get 0 i32.const 42 i32.add))
    let code = "const b = Uint8Array.from([0,97,115,109,1,0,0,0,1,6,1,96,1,127,1,127,3,2,1,0,7,5,1,1,102,0,0,10,9,1,7,0,32,0,65,42,106,11]); \
                const f = new WebAssembly.Instance(new WebAssembly.Module(b)).exports.f; \
                let s = 0; for (let i = 0; i < 100000; i++) s += f(i); console.log(s);";
    let guest = Guest::new(Path::new(node), &["-e", code]).within(Duration::from_secs(120));
    let mut failures = Failures::default();
    let traced = failures.add(node, compare(&artifacts, &guest, ANY));
    if let Some(traced) = traced {
        let gaps = traced.json["gaps"].to_string();
        failures.check("its code is translated", !gaps.contains("not translated"), || gaps.clone());
    }
    failures.finish();
}

#[test]
fn debuggers_see_the_programs_calls_and_children() {
    let Some(artifacts) = artifacts::need("debuggers_see_the_programs_calls_and_children") else {
        return;
    };
    compare_all(
        &artifacts,
        &[
            ("debugger events", ANY.processes(3)),
            ("debugger memory", ANY.processes(2)),
            ("debugger syscalls", ANY.processes(2)),
        ],
    );
}

/// A debugger stops a thread wherever it is. What it sees then is the tracer's as well, so the trace says that there was one.
#[test]
fn debuggers_of_registers_are_told_of() {
    let Some(artifacts) = artifacts::need("debuggers_of_registers_are_told_of") else { return };
    let mut failures = Failures::default();
    for what in ["rip", "gs", "breakpoint", "hardware", "step", "signal-regs"] {
        let guest = Guest::words(&format!("debugger {what}"));
        let traced = guest.traced(&artifacts);
        let is_told = traced.remarks().contains("a debugger among the programs");
        failures.check(what, is_told && !traced.is_complete(), || traced.remarks());
    }
    failures.finish();
}

/// Tools that trace a program of their own, run it, and pass on how it ended.
#[test]
fn tools_among_the_counted_programs() {
    const TEST: &str = "tools_among_the_counted_programs";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let worker = guest::compile("worker");
    let worker = worker.to_str().expect("UTF-8");
    let mut failures = Failures::default();
    for (tool, arguments) in [
        ("strace", &["-f", "-o", "/dev/null", worker, "children"][..]),
        ("strace", &["-o", "/dev/null", "/bin/sh", "-c", "exit 7"]),
        (
            "gdb",
            &[
                "-batch",
                "-nx",
                "-ex",
                "set debuginfod enabled off",
                "-ex",
                "run",
                "--args",
                "/bin/echo",
                "hi",
            ],
        ),
        ("valgrind", &["-q", "--tool=none", "/bin/echo", "hi"]),
        ("prlimit", &["--cpu=100", worker, "threads"]),
        ("timeout", &["30", worker, "signals"]),
    ] {
        let Some(program) = guest::program(tool) else {
            skip(TEST, &format!("{tool} is not installed"));
            continue;
        };
        let guest = Guest::new(&program, arguments).within(Duration::from_secs(60));
        let native = guest.native();
        let traced = guest.traced(&artifacts);
        // What gdb says of itself has process numbers in it; the program's own words are what counts.
        let own = |seen: &guest::Seen| {
            let text = String::from_utf8_lossy(&seen.stdout).into_owned();
            let kept = text.lines().filter(|line| tool != "gdb" || *line == "hi");
            kept.map(str::to_owned).collect::<Vec<_>>()
        };
        let name = format!("{tool} {}", arguments.join(" "));
        let is_same = traced.seen.end == native.end && own(&traced.seen) == own(&native);
        failures.check(&name, is_same, || {
            format!("natively {}\n    traced {}", native.shown(), traced.seen.shown())
        });
        let processes = if tool == "prlimit" { 1 } else { 2 };
        let wrong = guest::wrong_completeness(&traced, ANY.processes(processes));
        failures.check(&name, wrong.is_empty(), || format!("{wrong:?}; {}", traced.remarks()));
    }
    failures.finish();
}

/// AddressSanitizer wants to be the first library: it runs as natively, or we say clearly that it cannot.
#[test]
fn programs_with_an_address_sanitizer() {
    const TEST: &str = "programs_with_an_address_sanitizer";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let (source, program) = (directory.path().join("a.c"), directory.path().join("a"));
    std::fs::write(&source, "#include <stdio.h>\nint main(void) { puts(\"ok\"); return 4; }\n")
        .expect("writes");
    let compiled = Command::new("gcc")
        .args(["-fsanitize=address", "-o"])
        .arg(&program)
        .arg(&source)
        .output()
        .expect("gcc");
    if !compiled.status.success() {
        return skip(TEST, "no libasan (apt-get install libgcc-12-dev)");
    }
    let guest = Guest::new(&program, &[]);
    let native = guest.native();
    let traced = guest.traced(&artifacts);
    if traced.seen == native {
        return assert!(guest::wrong_completeness(&traced, ANY).is_empty(), "{}", traced.remarks());
    }
    let said = traced.messages.join(" ").to_lowercase();
    assert!(
        said.contains("sanitizer") || said.contains("asan"),
        "natively {}, traced {}, said {said:?}",
        native.shown(),
        traced.seen.shown()
    );
}
