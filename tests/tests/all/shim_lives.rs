//! Lives of processes and threads under the preloaded library: each must be as it is without it, and be
//! counted to the unit.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use tests::artifacts::{self, Artifacts};
use tests::preloaded::{Process, compile, counted, processes, shown};
use tests::skip::skip;

struct Life {
    output: Output,
    processes: Vec<Process>,
}

impl Life {
    /// The writes that the processes counted together. All of a life's writes go to /dev/null.
    fn writes(&self) -> u64 {
        self.processes.iter().map(|process| process.total("file_write_calls")).sum()
    }

    fn only(&self) -> &Process {
        assert_eq!(self.processes.len(), 1, "{:#?}", self.processes);
        &self.processes[0]
    }
}

/// Lives natively and counted; output and exit code must agree.
fn live(artifacts: &Artifacts, arguments: &[&str], environment: &[(&str, &str)]) -> Life {
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "life.c", directory.path(), &[]);
    let native = Command::new(&program).args(arguments).output().expect("starts");
    let records = directory.path().join("records");
    std::fs::create_dir(&records).expect("a directory");
    let output = limited(
        counted(artifacts, &program, &records)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped()),
    );
    assert_eq!(output.status, native.status, "{}", shown(&output));
    assert_eq!(output.stderr, native.stderr, "{}", shown(&output));
    Life { output, processes: processes(&records) }
}

/// Runs a command; one that hangs is killed and shown.
fn limited(command: &mut Command) -> Output {
    let child = command.spawn().expect("starts");
    let pid = child.id();
    let (done, waits) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        if waits.recv_timeout(Duration::from_secs(60)).is_err() {
            // SAFETY: our own child, which has not been waited for yet.
            unsafe { libc::kill(pid as i32, libc::SIGKILL) };
        }
    });
    let output = child.wait_with_output().expect("waits");
    done.send(()).ok();
    watch.join().expect("the watch");
    output
}

#[test]
fn a_thousand_short_threads() {
    let Some(artifacts) = artifacts::need("a_thousand_short_threads") else { return };
    let life = live(&artifacts, &["threads"], &[]);
    let process = life.only();
    assert_eq!(process.total("file_write_calls"), 10_000);
    assert_eq!(process.total("file_write_bytes"), 10_000);
    // main opened /dev/null and never ended as a thread.
    assert_eq!(process.threads, (1001, 1000));
    assert_eq!(process.ended_threads["file_write_calls"], 10_000);
    assert!(process.ended);
}

#[test]
fn cancellation_unwinds_through_a_hook() {
    let Some(artifacts) = artifacts::need("cancellation") else { return };
    let life = live(&artifacts, &["cancellation"], &[]);
    assert_eq!(life.writes(), 50, "one of each cleanup handler");
}

#[test]
fn forks_count_into_their_own_files() {
    let Some(artifacts) = artifacts::need("forks") else { return };
    let life = live(&artifacts, &["forks"], &[]);
    let mut writes: Vec<u64> =
        life.processes.iter().map(|process| process.total("file_write_calls")).collect();
    writes.sort_unstable();
    assert_eq!(writes, [7, 8, 11]);
    assert_eq!(life.processes.iter().filter(|process| process.forked).count(), 2);
    assert!(life.processes.iter().all(|process| process.ended));
}

#[test]
fn fork_among_counting_threads() {
    let Some(artifacts) = artifacts::need("fork_among_threads") else { return };
    let life = live(&artifacts, &["fork_among_threads"], &[]);
    let children: Vec<&Process> = life.processes.iter().filter(|process| process.forked).collect();
    assert_eq!(children.len(), 40);
    for child in children {
        assert_eq!(child.total("file_write_calls"), 10, "{child:#?}");
        assert!(child.ended);
    }
}

#[test]
fn a_fork_past_libc() {
    let Some(artifacts) = artifacts::need("raw_fork") else { return };
    let life = live(&artifacts, &["raw_fork"], &[]);
    let writes: Vec<u64> =
        life.processes.iter().map(|process| process.total("file_write_calls")).collect();
    assert_eq!(writes, [5, 9]);
}

#[test]
fn vfork_and_exec() {
    let Some(artifacts) = artifacts::need("vforks") else { return };
    let life = live(&artifacts, &["vforks"], &[]);
    let parent = &life.processes[0];
    assert_eq!(parent.total("file_write_calls"), 10);
    // The last one did not execute anything.
    assert_eq!(parent.spawns.len(), 4, "{parent:#?}");
    assert_eq!(parent.spawns[3].1, "");
    assert_eq!(life.processes.len(), 4);
    for (child, (pid, path)) in life.processes[1..].iter().zip(&parent.spawns) {
        assert_eq!(child.pid, *pid);
        assert_eq!(child.total("file_write_calls"), 3);
        assert!(path.ends_with("/life"));
    }
}

#[test]
fn posix_spawn_system_and_popen() {
    let Some(artifacts) = artifacts::need("spawns") else { return };
    let life = live(&artifacts, &["spawns"], &[]);
    let parent = &life.processes[0];
    assert_eq!(parent.spawns.len(), 1, "the one that succeeded: {parent:#?}");
    let child = life.processes.iter().find(|process| process.pid == parent.spawns[0].0);
    assert_eq!(child.expect("counted").total("file_write_calls"), 4);
    assert!(life.processes.iter().any(|process| process.comm == "sh"));
}

#[test]
fn exec_in_every_form() {
    let Some(artifacts) = artifacts::need("chain") else { return };
    let life = live(&artifacts, &["chain", "8"], &[]);
    assert_eq!(life.processes.len(), 9);
    assert_eq!(life.output.status.code(), Some(21));
    for (process, left) in life.processes.iter().zip((0..=8u64).rev()) {
        assert_eq!(process.total("file_write_calls"), left + 1, "{process:#?}");
        let mut execs = process.execs.iter();
        assert_eq!(execs.next().map(String::as_str), Some("/nonexistent"));
        assert_eq!(execs.next().is_some_and(|path| path.ends_with("/life")), left > 0);
        assert_eq!(process.ended, left == 0, "an exec is no end");
    }
}

#[test]
fn a_handler_in_the_middle_of_hooks() {
    let Some(artifacts) = artifacts::need("signals") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "life.c", directory.path(), &[]);
    let records = directory.path().join("records");
    std::fs::create_dir(&records).expect("a directory");
    let output = limited(
        counted(&artifacts, &program, &records).arg("signals").stdout(std::process::Stdio::piped()),
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let ticks: u64 = text.trim().strip_prefix("ticks ").expect("ticks").parse().expect("a number");
    assert!(ticks > 10, "the timer interrupted {ticks} times");
    let all = processes(&records);
    assert_eq!(all[0].total("file_write_calls"), 200_000 + ticks);
    assert_eq!(all[0].total("file_write_errors"), 0);
}

#[test]
fn siglongjmp_out_of_a_waiting_hook() {
    let Some(artifacts) = artifacts::need("jumps") else { return };
    let life = live(&artifacts, &["jumps"], &[]);
    assert_eq!(life.writes(), 200);
}

#[test]
fn every_descriptor_closed_and_taken_again() {
    let Some(artifacts) = artifacts::need("closes") else { return };
    let life = live(&artifacts, &["closes"], &[("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "10")]);
    let process = life.only();
    assert_eq!(process.total("file_write_calls"), 100);
    assert_eq!(process.total("file_open_calls"), 20_002);
    assert!(process.ended);
}

#[test]
fn main_leaves_before_the_last_thread() {
    let Some(artifacts) = artifacts::need("main_leaves") else { return };
    let life = live(&artifacts, &["main_leaves"], &[]);
    assert_eq!(life.writes(), 20);
    assert_eq!(life.output.status.code(), Some(17));
}

#[test]
fn the_only_thread_leaves_past_libc() {
    let Some(artifacts) = artifacts::need("only_thread_leaves") else { return };
    let life =
        live(&artifacts, &["only_thread_leaves"], &[("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "50")]);
    assert_eq!(life.output.status.code(), Some(9));
    assert_eq!(life.writes(), 3);
}

#[test]
fn destructors_of_thread_data_still_count() {
    let Some(artifacts) = artifacts::need("destructors") else { return };
    let life = live(&artifacts, &["destructors"], &[]);
    let process = life.only();
    assert_eq!(process.total("file_write_calls"), 20 * 5);
    assert_eq!(process.threads, (21, 20));
}

#[test]
fn namespaces_of_a_single_threaded_process() {
    let Some(artifacts) = artifacts::need("namespaces") else { return };
    // SAFETY: takes no argument.
    if unsafe { libc::geteuid() } != 0 {
        return skip("namespaces", "needs root");
    }
    let life = live(&artifacts, &["namespaces"], &[]);
    assert_eq!(life.writes(), 3);
}

#[test]
fn a_daemon_without_root_directory_and_streams() {
    let Some(artifacts) = artifacts::need("daemonise") else { return };
    // SAFETY: takes no argument.
    if unsafe { libc::geteuid() } != 0 {
        return skip("daemonise", "needs root");
    }
    let life = live(&artifacts, &["daemonise"], &[]);
    assert_eq!(life.processes.len(), 2);
    assert_eq!(life.writes(), 26);
}

/// Every life again with the engine counting instructions: the same output and exit code, and no write
/// less than the hooks see.
#[test]
fn every_life_under_the_engine() {
    let Some(artifacts) = artifacts::need("every_life_under_the_engine") else { return };
    let lives: [(&[&str], u64); 14] = [
        (&["threads"], 10_000),
        (&["cancellation"], 50),
        (&["forks"], 26),
        (&["fork_among_threads"], 400),
        (&["raw_fork"], 14),
        (&["vforks"], 19),
        (&["spawns"], 4),
        (&["chain", "8"], 45),
        (&["signals"], 200_000),
        (&["jumps"], 200),
        (&["closes"], 100),
        (&["main_leaves"], 20),
        (&["only_thread_leaves"], 3),
        (&["destructors"], 100),
    ];
    for (arguments, at_least) in lives {
        let life = live(&artifacts, arguments, &[("SPARKANALYZER_TRACER", "engine")]);
        assert!(life.writes() >= at_least, "{arguments:?}: {} writes", life.writes());
        let instructions: u64 =
            life.processes.iter().map(|process| process.total("instructions")).sum();
        assert!(instructions > at_least, "{arguments:?}: {instructions} instructions");
    }
}

/// The library throws out of a function that a hook stands before.
#[test]
fn an_exception_through_a_hook() {
    let Some(artifacts) = artifacts::need("exception") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let thrower = compile("g++", "throws.cpp", directory.path(), &["-shared", "-fPIC"]);
    let catcher = compile("g++", "catches.cpp", directory.path(), &[]);
    let records = directory.path().join("records");
    std::fs::create_dir(&records).expect("a directory");
    let mut preload = artifacts.shim.clone().into_os_string();
    preload.push(":");
    preload.push(&thrower);
    let output = limited(
        counted(&artifacts, &catcher, &records)
            .env("LD_PRELOAD", preload)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped()),
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "caught 1000\n", "{}", shown(&output));
}

/// The system's libjemalloc, or one unpacked beside it.
fn jemalloc() -> Option<PathBuf> {
    const LIBRARY: &str = "usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
    let cache = artifacts::repository().join(".cache/jemalloc");
    let known = [Path::new("/").join(LIBRARY), cache.join(LIBRARY)];
    if let Some(found) = known.iter().find(|path| path.exists()) {
        return Some(found.clone());
    }
    std::fs::create_dir_all(&cache).ok()?;
    let script = "apt-get download -qq libjemalloc2 && dpkg-deb -x libjemalloc2_*.deb .";
    Command::new("sh").args(["-c", script]).current_dir(&cache).output().ok()?;
    known.into_iter().find(|path| path.exists())
}

/// Another allocator preloaded before or after; its own calls go through hooks too.
#[test]
fn beside_jemalloc() {
    let Some(artifacts) = artifacts::need("jemalloc") else { return };
    let Some(jemalloc) = jemalloc() else {
        return skip("beside_jemalloc", "libjemalloc2 can neither be found nor downloaded");
    };
    let jemalloc = jemalloc.to_str().expect("text");
    for order in [
        [artifacts.shim.to_str().expect("text"), jemalloc],
        [jemalloc, artifacts.shim.to_str().expect("text")],
    ] {
        let directory = tempfile::tempdir().expect("a directory");
        let program = compile("gcc", "life.c", directory.path(), &[]);
        let records = directory.path().join("records");
        std::fs::create_dir(&records).expect("a directory");
        let output = limited(
            counted(&artifacts, &program, &records)
                .arg("threads")
                .env("LD_PRELOAD", order.join(":"))
                .stderr(std::process::Stdio::piped()),
        );
        assert!(output.status.success(), "{}", shown(&output));
        assert_eq!(processes(&records)[0].total("file_write_calls"), 10_000);
    }
}
