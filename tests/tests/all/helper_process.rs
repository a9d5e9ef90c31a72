//! The helper that writes for a counted process shares its memory and nothing else: the process does not see it, it has no
//! right that the process has given up, it ends with the process, and it writes the last counts whatever ended it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tests::artifacts::{self, Artifacts};
use tests::preloaded::{compile, counted, processes};
use tests::skip::skip;

const TRACERS: [&str; 2] = ["none", "engine"];
/// The lines of /proc/PID/status that say what a process may do.
const RIGHTS: [&str; 10] = [
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
];

fn is_root() -> bool {
    // SAFETY: takes no argument.
    unsafe { libc::geteuid() == 0 }
}

fn status(pid: u32) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

/// The helpers of a process: its children by that name.
fn helpers(of: u32) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").expect("lists").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let status = status(*pid);
        status.get("Name").is_some_and(|name| name == "sparkanalyzer")
            && status.get("PPid").is_some_and(|parent| *parent == of.to_string())
    })
    .collect()
}

/// Processes that have the records' folder in their variables.
fn with_folder(folder: &Path) -> Vec<u32> {
    let mark = format!("SPARKANALYZER_OUTPUT_DIR={}", folder.display()).into_bytes();
    let entries = std::fs::read_dir("/proc").expect("lists").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| {
        let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        variables.split(|byte| *byte == 0).any(|one| one == mark)
    })
    .collect()
}

fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(20), "{what}: not within 20 s");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The helper of a process, which may be about to be started.
fn helper(of: u32) -> u32 {
    let mut found = Vec::new();
    soon("a helper", || {
        found = helpers(of);
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

struct Running {
    child: Child,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Running {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        Running { child, stdout }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("reads");
        line.trim_end().to_owned()
    }

    /// Ends its standard input, and waits for its end.
    fn finish(mut self) -> std::process::ExitStatus {
        drop(self.child.stdin.take());
        self.child.wait().expect("waits")
    }
}

fn folder_for_all() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a directory");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o1777)).expect("sets");
    folder
}

#[test]
fn no_right_that_the_process_has_given_up() {
    let test = "no_right_that_the_process_has_given_up";
    let Some(artifacts) = artifacts::need(test) else { return };
    if !is_root() {
        return skip(test, "needs root");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "rights.c", directory.path(), &[]);
    let ways = [
        "nothing",
        "setuid",
        "setgid",
        "seteuid",
        "seteuid_and_back",
        "setegid",
        "setreuid",
        "setregid",
        "setresuid",
        "setresgid",
        "setgroups",
        "initgroups",
        "setfsuid",
        "setfsgid",
        "everything",
        "capset",
        "capset_none",
        "bounding_set",
        "no_new_privs",
        "keep_capabilities",
        "secure_bits",
        "user_namespace",
        "namespaces",
        "mild_filter",
    ];
    for tracer in TRACERS {
        for way in ways {
            let records = folder_for_all();
            let mut command = counted(&artifacts, &program, records.path());
            let mut running = Running::start(command.arg(way).env("SPARKANALYZER_TRACER", tracer));
            assert_eq!(running.line(), "given up", "{tracer} {way}");
            let pid = running.child.id();
            let (own, helper) = (status(pid), status(helper(pid)));
            for line in RIGHTS {
                assert_eq!(own.get(line), helper.get(line), "{tracer} {way}: {line}");
            }
            assert!(running.finish().success(), "{tracer} {way}");
            assert!(with_folder(records.path()).is_empty(), "{tracer} {way}: the helper has ended");
            let processes = processes(records.path());
            assert_eq!(processes.len(), 1, "{tracer} {way}");
            assert!(processes[0].ended, "{tracer} {way}: the end is recorded");
        }
    }
}

/// A thread by itself may give up what the process still has: the helper has what the thread has.
#[test]
fn no_right_that_a_thread_has_given_up() {
    let test = "no_right_that_a_thread_has_given_up";
    let Some(artifacts) = artifacts::need(test) else { return };
    if !is_root() {
        return skip(test, "needs root");
    }
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "rights.c", directory.path(), &[]);
    for tracer in TRACERS {
        let records = folder_for_all();
        let mut command = counted(&artifacts, &program, records.path());
        let mut running =
            Running::start(command.arg("by_a_thread").env("SPARKANALYZER_TRACER", tracer));
        assert_eq!(running.line(), "given up", "{tracer}");
        let helper = helper(running.child.id());
        assert_eq!(status(helper)["Uid"], "1001\t1001\t1001\t1001", "{tracer}");
        assert!(running.finish().success(), "{tracer}");
    }
}

#[test]
fn no_helper_under_a_filter_that_it_could_not_write_under() {
    let test = "no_helper_under_a_filter_that_it_could_not_write_under";
    let Some(artifacts) = artifacts::need(test) else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "rights.c", directory.path(), &[]);
    let records = folder_for_all();
    let mut command = counted(&artifacts, &program, records.path());
    let mut running =
        Running::start(command.arg("filter_of_writes").env("SPARKANALYZER_TRACER", "engine"));
    assert_eq!(running.line(), "given up");
    assert!(helpers(running.child.id()).is_empty());
    assert!(running.finish().success());
    let processes = processes(records.path());
    assert!(processes[0].notices.contains(&records::notice::NO_SNAPSHOTS), "{processes:?}");
    assert!(!processes[0].ended, "what came later is missing, and no record says otherwise");
}

/// What `seen.c` prints natively.
fn natively(program: &Path, arguments: &[&str]) -> (String, Option<i32>, Option<i32>) {
    let output = Command::new(program).args(arguments).output().expect("starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.code(), output.status.signal())
}

fn seen(test: &str) -> Option<(Artifacts, tempfile::TempDir, PathBuf)> {
    let artifacts = artifacts::need(test)?;
    let directory = tempfile::tempdir().expect("a directory");
    let program = compile("gcc", "seen.c", directory.path(), &[]);
    Some((artifacts, directory, program))
}

#[test]
fn the_process_sees_itself_as_natively() {
    let test = "the_process_sees_itself_as_natively";
    let Some((artifacts, _directory, program)) = seen(test) else { return };
    let mut ways =
        vec!["threads", "fork", "wait", "wait_all", "unshare", "kill_thread", "group", "debugger"];
    if is_root() {
        ways.extend(["time_namespace", "process_numbers"]);
    }
    for way in ways {
        let native = natively(&program, &[way]);
        for tracer in TRACERS {
            let records = folder_for_all();
            let mut command = counted(&artifacts, &program, records.path());
            let output = command.arg(way).env("SPARKANALYZER_TRACER", tracer).output();
            let output = output.expect("starts");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let counted = (text, output.status.code(), output.status.signal());
            assert_eq!(counted, native, "{tracer} {way}");
            assert!(with_folder(records.path()).is_empty(), "{tracer} {way}: nobody is left");
        }
    }
}

/// A process that is killed, at its end or in the middle, has its last counts written by the helper.
#[test]
fn the_last_counts_survive_the_process() {
    let test = "the_last_counts_survive_the_process";
    let Some((artifacts, _directory, program)) = seen(test) else { return };
    let writes = |tracer: &str, way: &str| {
        let records = folder_for_all();
        let mut command = counted(&artifacts, &program, records.path());
        // No snapshot comes before the end.
        command.env("SPARKANALYZER_SNAPSHOT_INTERVAL_MS", "3600000");
        let status = command.arg(way).env("SPARKANALYZER_TRACER", tracer).status().expect("starts");
        soon(way, || with_folder(records.path()).is_empty());
        let processes = processes(records.path());
        assert_eq!(processes.len(), 1, "{tracer} {way}");
        assert!(processes[0].ended, "{tracer} {way}: an end is recorded");
        let totals = &processes[0];
        let instructions = if tracer == "none" { 0 } else { totals.total("instructions") };
        (status, totals.total("file_write_calls"), instructions)
    };
    for tracer in TRACERS {
        let (_, exits, executed) = writes(tracer, "end_by_exit");
        assert_eq!(exits, 1000, "{tracer}");
        for (way, signal) in [
            ("end_by_SIGKILL", libc::SIGKILL),
            ("end_by_SIGTERM", libc::SIGTERM),
            ("end_by_SIGPIPE", libc::SIGPIPE),
            ("end_by_SIGSEGV", libc::SIGSEGV),
            ("end_by_SIGABRT", libc::SIGABRT),
        ] {
            let (status, killed, by_then) = writes(tracer, way);
            assert_eq!(status.signal(), Some(signal), "{tracer} {way}");
            assert_eq!(killed, 1000, "{tracer} {way}");
            // The same loop in both; how the process ends takes some hundreds.
            assert!(
                executed.abs_diff(by_then) < 20_000,
                "{tracer} {way}: {by_then} and {executed}"
            );
        }
    }
}

/// Whoever cannot have another process is counted without a helper.
#[test]
fn no_process_to_be_had() {
    let test = "no_process_to_be_had";
    let Some((artifacts, _directory, program)) = seen(test) else { return };
    if !is_root() {
        return skip(test, "needs root, to be a user of whom there are no other processes");
    }
    let records = folder_for_all();
    let mut command = counted(&artifacts, &program, records.path());
    command.arg("end_by_exit").env("SPARKANALYZER_TRACER", "engine");
    let limit = |_: ()| {
        let one = libc::rlimit { rlim_cur: 1, rlim_max: 1 };
        // SAFETY: plain calls with a pointer to a local, between fork and exec.
        unsafe {
            libc::setrlimit(libc::RLIMIT_NPROC, &raw const one) == 0
                && libc::setgid(64_123) == 0
                && libc::setuid(64_123) == 0
        }
    };
    // SAFETY: only calls that may be made between fork and exec.
    unsafe {
        std::os::unix::process::CommandExt::pre_exec(&mut command, move || {
            if limit(()) { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
    }
    let folder = program.parent().expect("a folder");
    std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("sets");
    assert!(command.status().expect("starts").success());
    let processes = processes(records.path());
    assert_eq!(processes.len(), 1);
    assert!(processes[0].ended && processes[0].notices.contains(&records::notice::NO_SNAPSHOTS));
    assert_eq!(processes[0].total("file_write_calls"), 1000);
}

/// An exec that fails is followed by what the program does next, helper included.
#[test]
fn an_exec_that_fails() {
    let test = "an_exec_that_fails";
    let Some((artifacts, _directory, program)) = seen(test) else { return };
    for tracer in TRACERS {
        let records = folder_for_all();
        let mut command = counted(&artifacts, &program, records.path());
        let mut running =
            Running::start(command.arg("exec_fails").env("SPARKANALYZER_TRACER", tracer));
        assert_eq!(running.line(), "still here", "{tracer}");
        helper(running.child.id());
        assert!(running.finish().success(), "{tracer}");
        let processes = processes(records.path());
        assert_eq!(processes[0].total("file_write_calls"), 1000, "{tracer}");
    }
}

/// Valgrind serves no process that shares memory, and sees the engine's own code: the program runs without both.
#[test]
fn a_program_under_valgrind() {
    let test = "a_program_under_valgrind";
    let Some(artifacts) = artifacts::need(test) else { return };
    if Command::new("valgrind").arg("--version").output().is_err() {
        return skip(test, "valgrind is not installed");
    }
    let run = |mut command: Command| {
        let output = command.args(["-q", "/bin/echo", "hello"]).output().expect("starts");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.stdout, stderr, output.status.code())
    };
    let native = run(Command::new("valgrind"));
    for tracer in TRACERS {
        let records = folder_for_all();
        let mut command = counted(&artifacts, Path::new("valgrind"), records.path());
        command.env("SPARKANALYZER_TRACER", tracer);
        assert_eq!(run(command), native, "{tracer}");
        let processes = processes(records.path());
        let last = processes.last().expect("a process");
        assert!(last.ended && last.notices.contains(&records::notice::NO_SNAPSHOTS), "{last:?}");
    }
}

/// Whoever kills the helper takes snapshots away: the process goes on, and writes its end itself.
#[test]
fn a_helper_that_is_killed() {
    let test = "a_helper_that_is_killed";
    let Some((artifacts, _directory, program)) = seen(test) else { return };
    for tracer in TRACERS {
        let records = folder_for_all();
        let mut command = counted(&artifacts, &program, records.path());
        let mut running =
            Running::start(command.arg("exec_fails").env("SPARKANALYZER_TRACER", tracer));
        assert_eq!(running.line(), "still here", "{tracer}");
        let helper = helper(running.child.id());
        // SAFETY: a child of our child, which is not waited for.
        unsafe { libc::kill(helper.cast_signed(), libc::SIGKILL) };
        soon("killed", || status(helper).get("State").is_some_and(|state| state.starts_with('Z')));
        assert!(running.finish().success(), "{tracer}");
        let processes = processes(records.path());
        assert!(processes[0].ended, "{tracer}: its end is recorded");
        assert_eq!(processes[0].total("file_write_calls"), 1000, "{tracer}");
    }
}
