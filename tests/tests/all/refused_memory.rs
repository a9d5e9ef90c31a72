//! Where the kernel gives little memory, or none for code, programs run as natively: counted where there is room, with a
//! notice where there is none.

use std::path::Path;

use tests::artifacts::{self, Artifacts};
use tests::build::{Linking, Source};
use tests::run::{self, Traced, Tracing};

/// Runs a program natively and traced: the same output and exit code.
fn as_natively(artifacts: &Artifacts, program: &Path, arguments: &[&str]) -> Traced {
    let native = run::native(program, arguments).expect("starts natively");
    let traced = Tracing::default().run(artifacts, program, arguments).expect("starts traced");
    let said = String::from_utf8_lossy(&traced.captured.stderr);
    let (ours, own) = (&traced.captured.stdout, &native.captured.stdout);
    assert_eq!(
        String::from_utf8_lossy(ours),
        String::from_utf8_lossy(own),
        "{arguments:?}: {said}"
    );
    assert_eq!(traced.status.code(), native.status.code(), "{arguments:?}: {said}");
    traced
}

/// The figures that a program prints, one a line behind a name.
fn figures(output: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(output);
    text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect()
}

#[test]
fn little_address_space_is_taken() {
    const MOST_KB: u64 = 64 << 10;
    let Some(artifacts) = artifacts::need("little_address_space_is_taken") else { return };
    for linking in [Linking::Pie, Linking::Fixed] {
        let program = Source::named("own_address_space.c").build(linking);
        let native = figures(&run::native(&program, &[]).expect("starts").captured.stdout);
        let traced = Tracing::default().run(&artifacts, &program, &[]).expect("starts");
        assert!(traced.complete(), "{:#}", traced.json["processes"]);
        let traced = figures(&traced.captured.stdout);
        assert_eq!((native.len(), traced.len()), (2, 2));
        for (native, traced) in native.into_iter().zip(traced) {
            assert!(
                traced < native + MOST_KB,
                "{linking:?}: {native} kB natively, {traced} kB traced"
            );
        }
        as_natively(&artifacts, &program, &["400000000"]);
    }
}

#[test]
fn programs_run_under_a_limit_of_address_space() {
    const TEST: &str = "programs_run_under_a_limit_of_address_space";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let programs: [&[&str]; 3] = [
        &["/bin/echo", "hi"],
        &["/usr/bin/perl", "-e", "print 6 * 7, qq(\\n)"],
        &["/usr/bin/python3", "-c", "print(sum(range(100000)))"],
    ];
    for kib in [100_000u64, 200_000, 300_000, 320_000, 340_000, 360_000, 400_000, 1_000_000] {
        let limit = format!("--as={}", kib << 10);
        for program in programs {
            let arguments = [&[&*limit], program].concat();
            let traced = as_natively(&artifacts, Path::new("/usr/bin/prlimit"), &arguments);
            assert!(traced.complete(), "{kib} KiB, {program:?}: {:#}", traced.json["processes"]);
        }
    }
}

/// A program that needs nearly all that its limit leaves has it, as natively.
#[test]
fn the_engine_makes_way_for_what_the_program_needs() {
    const TEST: &str = "the_engine_makes_way_for_what_the_program_needs";
    const NEEDED: u64 = 100 << 20;
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let text = format!("import mmap; print(len(mmap.mmap(-1, {NEEDED})))");
    let program: [&str; 3] = ["/usr/bin/python3", "-c", &text];
    let under = |limit: u64| {
        let limit = format!("--as={limit}");
        let arguments: Vec<&str> = std::iter::once(&*limit).chain(program).collect();
        let native = run::native(Path::new("/usr/bin/prlimit"), &arguments).expect("starts");
        (arguments.iter().map(|one| one.to_string()).collect::<Vec<_>>(), native.status.success())
    };
    // The least limit, to a page, with which the program runs natively: found by halving.
    let (mut fails, mut runs) = (NEEDED, NEEDED + (64 << 20));
    assert!(under(runs).1);
    while runs - fails > 4096 {
        let middle = (fails + runs) / 2;
        *(if under(middle).1 { &mut runs } else { &mut fails }) = middle;
    }
    /// What of the library stays: its file, the thread's context, the weights of counters, the recorder's heap.
    const STAYS: u64 = 5 << 20;
    let mut released = 0;
    for more in [STAYS, STAYS + (1 << 20), 2 * STAYS, 16 << 20, 64 << 20] {
        let (arguments, _) = under(runs + more);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let traced = as_natively(&artifacts, Path::new("/usr/bin/prlimit"), &arguments);
        if !traced.complete() {
            released += 1;
            let said = String::from_utf8_lossy(&traced.captured.stderr);
            assert!(said.contains("no memory for translations: the address space"), "{said}");
        }
        assert!(more < 64 << 20 || traced.complete(), "there is room for both");
    }
    assert!(released > 0, "nothing was tight");
}

#[test]
fn four_thousand_threads_are_counted() {
    const TEST: &str = "four_thousand_threads_are_counted";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let program = Source::named("many_threads.c").build(Linking::Pie);
    let traced = as_natively(&artifacts, &program, &["4000"]);
    assert!(traced.complete(), "{}", String::from_utf8_lossy(&traced.captured.stderr));
    assert_eq!(traced.json["processes"][0]["threads"].as_array().map(Vec::len), Some(8_001));
    // Each of the first 4,000 passes a loop of 1,000 rounds of at least five instructions.
    assert!(traced.total("instructions") > 20_000_000);
    // More than the least memory has room for: nothing is lost all the same.
    let tight = Tracing { environment: &[("SPARKANALYZER_MEMORY_LIMIT_MIB", "4")], options: &[] };
    let tight = tight.run(&artifacts, &program, &["4000"]).expect("starts");
    assert!(tight.status.success());
    let said = String::from_utf8_lossy(&tight.captured.stderr);
    assert!(!tight.complete() && said.contains("memory_limit_mib = 4"), "{said}");
    let [all, counted] = [&traced, &tight].map(|run| run.total("instructions"));
    assert!(all.abs_diff(counted) * 100 < all, "{counted} instead of {all}");
}

/// Code that the program makes in the middle of a large reservation: nothing of ours is within reach of it.
#[test]
fn code_in_a_large_reservation_is_counted() {
    const TEST: &str = "code_in_a_large_reservation_is_counted";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let program = Source::named("far_code.c").build(Linking::Pie);
    for arguments in [["1", "r"], ["1", "w"], ["16", "r"], ["16", "w"]] {
        let traced = as_natively(&artifacts, &program, &arguments);
        let said = String::from_utf8_lossy(&traced.captured.stderr);
        assert!(traced.complete(), "{arguments:?}: {said}");
        // The code at the end is executed 100,000 times; it has six instructions, and the loop more.
        assert!(traced.total("instructions") > 1_000_000, "{arguments:?}");
    }
}

/// The launcher, and what it cannot do on this kernel.
fn hardened(test: &str, kind: &str) -> Option<std::path::PathBuf> {
    let launcher = Source::named("without_writable_code.c").build(Linking::Pie);
    let native = run::native(&launcher, &[kind, "/bin/true"]).expect("starts");
    if native.status.code() == Some(77) {
        tests::skip::skip(test, &format!("this kernel has no {kind}"));
        return None;
    }
    Some(launcher)
}

#[test]
fn code_is_counted_where_it_may_not_be_writable() {
    const TEST: &str = "code_is_counted_where_it_may_not_be_writable";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let threads = Source::named("threads.c").build(Linking::Pie);
    let threads = threads.to_str().expect("UTF-8");
    let shell = "for i in 1 2 3; do seq 1 1000 | sort -rn | head -1; (exit $i); echo $?; done";
    let forks = "import os
for i in range(20):
    if os.fork() == 0:
        os._exit(sum(range(1000 * i)) % 50)
print([os.waitstatus_to_exitcode(os.wait()[1]) for i in range(20)].sort())";
    let programs: [&[&str]; 4] = [
        &["/bin/echo", "hi"],
        &["/bin/bash", "-c", shell],
        &["/usr/bin/python3", "-c", forks],
        &[threads, "10"],
    ];
    for kind in ["mdwe", "filter"] {
        let Some(launcher) = hardened(TEST, kind) else { continue };
        for program in programs {
            let arguments = [&[kind], program].concat();
            let plain =
                Tracing::default().run(&artifacts, &launcher, &[&["plain"], program].concat());
            let plain = plain.expect("starts").total("instructions");
            let traced = as_natively(&artifacts, &launcher, &arguments);
            assert!(traced.complete(), "{kind}, {program:?}: {:#}", traced.json["processes"]);
            let counted = traced.total("instructions");
            let difference = counted.abs_diff(plain);
            assert!(difference * 20 < plain, "{kind}, {program:?}: {counted}, else {plain}");
        }
    }
}

#[test]
fn without_any_memory_for_code_programs_run_natively() {
    const TEST: &str = "without_any_memory_for_code_programs_run_natively";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let Some(launcher) = hardened(TEST, "no_code") else { return };
    let threads = Source::named("threads.c").build(Linking::Pie);
    let threads = threads.to_str().expect("UTF-8");
    let programs: [&[&str]; 2] = [&["/bin/echo", "hi"], &[threads, "3"]];
    for program in programs {
        let traced = as_natively(&artifacts, &launcher, &[&["no_code"], program].concat());
        assert!(!traced.complete());
        let said = String::from_utf8_lossy(&traced.captured.stderr);
        assert!(said.contains("no memory for translations: code may not be made here"), "{said}");
    }
}

/// A call of ours would be the end of the program there: it is left alone, and that is said.
#[test]
fn where_a_call_of_ours_kills_programs_are_left_alone() {
    const TEST: &str = "where_a_call_of_ours_kills_programs_are_left_alone";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let Some(launcher) = hardened(TEST, "kill") else { return };
    let traced = as_natively(&artifacts, &launcher, &["kill", "/bin/echo", "hi"]);
    assert!(!traced.complete());
    let said = String::from_utf8_lossy(&traced.captured.stderr);
    assert!(said.contains("under a filter that leaves no room to count it"), "{said}");
}
