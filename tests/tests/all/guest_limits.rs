//! Resource limits of all kinds: what runs under one natively runs counted, but for a margin of address space that the
//! library may take, which is stated here.

use std::time::Duration;

use tests::artifacts;
use tests::guest::{ANY, End, Failures, Guest, compare, compare_all, compare_with};

/// Address space that a counted process may take more than natively at its start.
const MARGIN: u64 = 64 << 20;

/// A limit at which the program runs the same with the margin less: then it must run counted.
fn has_room(line: &str, resource: &str, bytes: u64) -> bool {
    let Some(less) = bytes.checked_sub(MARGIN) else { return false };
    let with = |bytes: u64| Guest::words(line).under(&[&format!("{resource}={bytes}")]).native();
    with(bytes) == with(less)
}

#[test]
fn little_address_space() {
    let Some(artifacts) = artifacts::need("little_address_space") else { return };
    let mut failures = Failures::default();
    let mut with_room = 0;
    let kib = [
        20_000, 50_000, 66_000, 70_000, 80_000, 100_000, 130_000, 160_000, 200_000, 250_000,
        300_000, 310_000, 320_000, 330_000, 340_000, 350_000, 360_000, 400_000, 440_000, 480_000,
        600_000, 1_000_000, 4_000_000,
    ];
    for line in [
        "/bin/echo hi",
        "worker children",
        "worker signals",
        "/usr/bin/gzip -c /etc/services",
        "many_threads 3",
    ] {
        for kib in kib {
            for resource in ["as", "data"] {
                let bytes = kib * 1024;
                let guest = Guest::words(line).under(&[&format!("{resource}={bytes}")]);
                let guest = guest.within(Duration::from_secs(15));
                let name = format!("under {resource}={bytes} -- {line}");
                if has_room(line, resource, bytes) {
                    with_room += 1;
                    failures.add(&name, compare(&artifacts, &guest, ANY));
                } else {
                    // It may fail where it does not natively, but it ends, and is not called complete for nothing.
                    let traced = guest.traced(&artifacts);
                    failures.check(&name, traced.seen.end != End::Hung, || "hangs".to_owned());
                }
            }
        }
    }
    assert!(with_room > 80, "only {with_room} limits were compared");
    failures.finish();
}

#[test]
fn a_limit_that_the_program_sets_itself() {
    let Some(artifacts) = artifacts::need("a_limit_that_the_program_sets_itself") else { return };
    compare_all(
        &artifacts,
        &[
            ("address_space 230000000", ANY),
            ("address_space 300000000", ANY),
            ("address_space 400000000", ANY),
            ("address_space 500000000", ANY),
            ("address_space 230000000 data", ANY),
            ("address_space 300000000 data", ANY),
            ("address_space 400000000 data", ANY),
        ],
    );
}

/// How much address space a small program has: what a user sees in top and what counts against a limit.
#[test]
fn address_space_at_the_start() {
    let Some(artifacts) = artifacts::need("address_space_at_the_start") else { return };
    let guest = Guest::words("/bin/grep -E ^Vm(Size|Data): /proc/self/status");
    let sizes = |text: &[u8]| -> Vec<u64> {
        let text = String::from_utf8_lossy(text).into_owned();
        text.lines().filter_map(|line| line.split_whitespace().nth(1)?.parse().ok()).collect()
    };
    let (native, traced) =
        (sizes(&guest.native().stdout), sizes(&guest.traced(&artifacts).seen.stdout));
    assert_eq!((native.len(), traced.len()), (2, 2));
    let more = [traced[0].saturating_sub(native[0]), traced[1].saturating_sub(native[1])];
    println!("address space natively {native:?} KiB, counted {traced:?} KiB");
    assert!(
        more[0] <= MARGIN / 1024 && more[1] <= MARGIN / 1024,
        "{more:?} KiB more than natively"
    );
}

#[test]
fn other_limits() {
    let Some(artifacts) = artifacts::need("other_limits") else { return };
    let mut failures = Failures::default();
    let limits = [
        "nofile=3",
        "nofile=4",
        "nofile=5",
        "nofile=8",
        "nofile=16",
        "nofile=64",
        "fsize=0",
        "fsize=1",
        "fsize=100",
        "fsize=4096",
        "fsize=100000",
        "stack=65536",
        "stack=262144",
        "stack=1000000",
        "stack=8388608",
        "memlock=0",
        "memlock=4096",
        "memlock=65536",
        "core=0",
        "core=4096",
        "cpu=30",
        "locks=0",
        "sigpending=0",
        "sigpending=1",
        "msgqueue=0",
        "rttime=1000000",
    ];
    for line in [
        "/bin/echo hi",
        "worker children",
        "/usr/bin/gzip -c /etc/services",
        "many_threads 10",
        "/bin/bash -c echo${IFS}a|cat",
    ] {
        for limit in limits {
            let guest = Guest::words(line).under(&[limit]);
            failures.add(&format!("under {limit} -- {line}"), compare(&artifacts, &guest, ANY));
        }
    }
    failures.finish();
}

/// As a user, whose number of processes and threads is limited: one more of ours would be one less of the program's.
#[test]
fn number_of_processes() {
    const TEST: &str = "number_of_processes";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    if !tests::guest::is_root() {
        return tests::skip::skip(TEST, "needs root, to become a user without processes");
    }
    let mut failures = Failures::default();
    for (i, limit) in [1, 2, 3, 4, 6, 11, 12, 20].into_iter().enumerate() {
        for (k, line) in ["many_threads 10", "worker children"].into_iter().enumerate() {
            // A user each: what another run left behind does not count.
            let user = format!("uid={}", 61_000 + i * 10 + k);
            let guest = Guest::words(line).under(&["gid=61000", &user, &format!("nproc={limit}")]);
            failures.add(
                &format!("under {user} nproc={limit} -- {line}"),
                compare(&artifacts, &guest, ANY),
            );
        }
    }
    failures.finish();
}

#[test]
fn thousands_of_threads() {
    const TEST: &str = "thousands_of_threads";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let mut failures = Failures::default();
    for threads in [100, 1000, 4000] {
        let line = format!("many_threads {threads}");
        let guest = Guest::words(&line).within(Duration::from_secs(120));
        let native = guest.native();
        if native.end != End::Code(0) {
            tests::skip::skip(TEST, &format!("{threads} threads cannot be made here"));
            continue;
        }
        let Some(traced) = failures.add(&line, compare_with(&artifacts, &guest, &native, ANY))
        else {
            continue;
        };
        if traced.is_complete() {
            continue;
        }
        let said = format!("{} {:?}", traced.remarks(), traced.messages);
        failures.check(&line, said.contains("memory_limit_mib"), || {
            format!("does not name memory_limit_mib: {said}")
        });
        // Each thread's loop has some 1,000 rounds; those of the first hundred at least must be there.
        let instructions = traced.total("instructions");
        failures.check(&line, instructions > 300_000, || {
            format!("lost its counts: {instructions}; {said}")
        });
    }
    failures.finish();
}
