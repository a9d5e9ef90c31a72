//! Seccomp filters of all kinds: by the program, a thread, a parent, a launcher; before and after exec; with each action.
//! A filtered program ends, and writes, as it does natively.

use std::path::Path;
use std::time::Duration;

use tests::artifacts;
use tests::guest::{ANY, Failures, Guest, Known, compare, compare_all};
use tests::skip::skip;

/// A worker's loop has three instructions at least.
const SPIN: u64 = 20_000_000 * 3;

#[test]
fn allow_lists() {
    let Some(artifacts) = artifacts::need("allow_lists") else { return };
    let mut failures = Failures::default();
    for action in ["kill_thread", "kill_process", "trap", "errno-1", "errno-38", "log"] {
        for (place, processes) in [
            ("main", 1),
            ("tsync", 1),
            ("twice", 1),
            ("thread", 1),
            ("thread-tsync", 1),
            ("parent", 2),
            ("exec", 1),
        ] {
            let guest = Guest::words(&format!("allow_list {action} {place}")).reading("line\n");
            let known = ANY.processes(processes).instructions(SPIN);
            failures
                .add(&format!("allow_list {action} {place}"), compare(&artifacts, &guest, known));
        }
    }
    failures.finish();
}

/// Longer than a snapshot's interval: whoever writes snapshots meets the filter too.
#[test]
fn allow_lists_of_programs_that_go_on() {
    let Some(artifacts) = artifacts::need("allow_lists_of_programs_that_go_on") else { return };
    let mut failures = Failures::default();
    for action in ["kill_thread", "kill_process", "trap", "errno-1"] {
        for place in ["main", "tsync", "thread-tsync"] {
            let line = format!("allow_list {action} {place} 700000000");
            let guest = Guest::words(&line).reading("line\n");
            failures.add(&line, compare(&artifacts, &guest, ANY.instructions(2_100_000_000)));
        }
    }
    failures.finish();
}

#[test]
fn strict_mode() {
    let Some(artifacts) = artifacts::need("strict_mode") else { return };
    let known = ANY.instructions(SPIN);
    compare_all(
        &artifacts,
        &[
            ("strict_mode prctl", known),
            ("strict_mode seccomp", known),
            ("strict_mode open", known),
        ],
    );
}

#[test]
fn threads_that_a_filter_kills() {
    let Some(artifacts) = artifacts::need("threads_that_a_filter_kills") else { return };
    compare_all(
        &artifacts,
        &[("filter_at_lea", ANY), ("kill_thread", ANY.processes(2)), ("kill_thread thread", ANY)],
    );
}

#[test]
fn filters_that_ask_a_supervisor() {
    let Some(artifacts) = artifacts::need("filters_that_ask_a_supervisor") else { return };
    let known = ANY.instructions(SPIN);
    compare_all(
        &artifacts,
        &[
            ("user_notification plain", known.processes(2)),
            ("user_notification refuse", known.processes(2)),
            ("user_notification thread", known),
            ("user_notification all", known.processes(2)),
        ],
    );
}

/// What containers' profiles refuse, and what the library might want of the kernel: numbers by name for the message.
const REFUSED: &[(&str, &str)] = &[
    ("process_vm_readv and writev", "310 311"),
    ("ptrace, perf_event_open, process_vm", "101 298 310 311"),
    ("prctl", "157"),
    ("membarrier", "324"),
    ("madvise", "28"),
    ("mincore", "27"),
    ("gettid, getpid", "186 39"),
    ("tgkill, tkill", "234 200"),
    ("kcmp", "312"),
    ("memfd_create", "319"),
    ("pipe, pipe2", "22 293"),
    ("readlink, readlinkat", "89 267"),
    ("stat and fstat", "4 5 6 262 332"),
    ("sched_yield, nanosleep", "24 35 230"),
    ("getrandom", "318"),
    ("clock_gettime, gettimeofday, time", "228 96 201"),
    ("timerfd, timer_create, setitimer", "283 286 287 222 223 38"),
    ("clone3", "435"),
    ("openat, open", "257 2"),
    ("pwrite64, write to files by number", "18 20 296"),
    ("fallocate, ftruncate", "285 77"),
    ("ioctl, fcntl", "16 72"),
    ("unlink, rename, mkdir", "87 263 82 264 83 258"),
    ("wait4, waitid", "61 247"),
    ("mremap", "25"),
    ("mlock, munlock", "149 150 325"),
    ("arch_prctl", "158"),
    ("get_robust_list, set_robust_list, rseq", "273 274 334"),
    ("eventfd, epoll, poll", "284 290 213 291 7"),
    ("kill, rt_sigqueueinfo", "62 129 297"),
    ("sched_getaffinity, getcpu", "204 309"),
    ("capget, getuid", "125 102 104 107 108"),
    ("setpgid, setsid, getsid", "109 112 124"),
    ("userfaultfd, pkeys, memfd_secret", "323 329 330 331 447"),
    ("process_madvise, process_mrelease, pidfd", "440 448 434 438 424"),
];

#[test]
fn calls_that_a_profile_refuses() {
    let Some(artifacts) = artifacts::need("calls_that_a_profile_refuses") else { return };
    let mut failures = Failures::default();
    for action in ["errno-1", "errno-38", "kill_process", "trap"] {
        for (name, numbers) in REFUSED {
            let guest = Guest::words(&format!("refused_calls {action} {numbers}"));
            failures.add(
                &format!("{name}, {action}: refused_calls {action} {numbers}"),
                compare(&artifacts, &guest, ANY),
            );
        }
    }
    failures.finish();
}

/// The same refusals from the start of the program on, and for programs that nobody made for this.
#[test]
fn programs_started_where_calls_are_refused() {
    const TEST: &str = "programs_started_where_calls_are_refused";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let mut failures = Failures::default();
    let programs: &[(&str, Known)] = &[
        ("worker signals", ANY),
        ("worker children", ANY.processes(5)),
        ("/usr/bin/python3 -S -c print(sum(range(10000)))", ANY),
        ("/usr/bin/sort --parallel=2 /etc/services", ANY),
        ("many_threads 20", ANY),
    ];
    for (name, numbers) in REFUSED {
        let word = format!("deny={}:errno-1", numbers.replace(' ', ","));
        for (line, known) in programs {
            let guest = Guest::words(line).under(&[&word]);
            let native = guest.native();
            // What does not even run natively says nothing about us.
            if native.end != tests::guest::End::Code(0) {
                continue;
            }
            let result = tests::guest::compare_with(&artifacts, &guest, &native, *known);
            failures.add(&format!("under {word} -- {line} ({name})"), result);
        }
    }
    failures.finish();
}

#[test]
fn a_jvm_without_process_vm_readv() {
    const TEST: &str = "a_jvm_without_process_vm_readv";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let Some(java) = tests::guest::program("java") else {
        return skip(TEST, "java is not installed");
    };
    let mut failures = Failures::default();
    for word in ["deny=310,311:errno-1", "deny=101,298,310,311:errno-1", "deny=310,311:errno-38"] {
        let guest = Guest::new(Path::new(&java), &["-Xshare:auto", "-version"]).under(&[word]);
        let guest = guest.within(Duration::from_secs(120));
        failures.add(word, compare(&artifacts, &guest, ANY));
    }
    failures.finish();
}

/// systemd's MemoryDenyWriteExecute, as a filter and as PR_SET_MDWE.
#[test]
fn no_memory_that_is_writable_and_executable() {
    const TEST: &str = "no_memory_that_is_writable_and_executable";
    let Some(artifacts) = artifacts::need(TEST) else { return };
    let mut failures = Failures::default();
    for word in ["wx", "mdwe"] {
        for line in [
            "/bin/echo hi",
            "/bin/sh -c true",
            "worker signals",
            "worker children",
            "many_threads 5",
            "/usr/bin/gzip -c /etc/services",
        ] {
            let guest = Guest::words(line).under(&[word]);
            failures.add(&format!("under {word} -- {line}"), compare(&artifacts, &guest, ANY));
        }
    }
    failures.finish();
}
