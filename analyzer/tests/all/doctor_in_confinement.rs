//! `analyzer doctor` where system calls and rights are refused, as in containers and services: it says what is refused and
//! what would break, and is itself neither killed nor kept waiting.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use serde_json::Value;

/// What the doctor finds after `prepare` in its process.
fn examine(
    test: &str,
    arguments: &[&str],
    prepare: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
) -> Option<Vec<Value>> {
    let shim = tests::artifacts::need(test)?.shim;
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("conf.toml");
    std::fs::write(&conf, format!("output_dir = {:?}\n", folder.path())).unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin("analyzer"));
    command.args(["doctor", "--format", "json", "--shim"]).arg(shim).arg("--conf").arg(conf);
    command.args(arguments).stdin(Stdio::null()).env_remove("LD_PRELOAD");
    // SAFETY: the closures make system calls alone.
    unsafe { command.pre_exec(prepare) };
    let output = command.output().unwrap();
    let all: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {output:?}"));
    Some(all["findings"].as_array().unwrap().clone())
}

/// A check's level and what was found.
fn found<'f>(findings: &'f [Value], check: &str) -> (&'f str, &'f str) {
    let one = findings.iter().find(|one| one["check"] == check);
    let one = one.unwrap_or_else(|| panic!("{check}: {findings:?}"));
    (one["level"].as_str().unwrap(), one["found"].as_str().unwrap())
}

/// Installs a filter that does this to these system calls and lets all others through.
fn refuse(numbers: &[libc::c_long], action: u32) -> std::io::Result<()> {
    const LOAD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    // No allocation between fork and exec: room for eight numbers.
    let mut program = [statement(RETURN, libc::SECCOMP_RET_ALLOW); 19];
    program[0] = statement(LOAD, 0);
    for (at, number) in numbers.iter().enumerate() {
        let is_it = libc::sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: *number as u32 };
        program[1 + 2 * at] = is_it;
        program[2 + 2 * at] = statement(RETURN, action);
    }
    let filter = libc::sock_fprog { len: 19, filter: program.as_mut_ptr() };
    // SAFETY: the program is live, and as long as it says.
    let code = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    };
    if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

const EPERM: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;

#[test]
fn nothing_is_refused_and_both_trials_are_as_natively() {
    let Some(findings) = examine("nothing_is_refused", &[], || Ok(())) else { return };
    for check in ["filters", "limits", "kernel limits", "code memory", "counting"] {
        assert_eq!(found(&findings, check).0, "good", "{check}: {findings:?}");
    }
    let (level, threads) = found(&findings, "threads");
    assert!(level == "good" && threads.contains("complete"), "{threads}");
    let (level, jvm) = found(&findings, "jvm");
    let is_there = Command::new("java").arg("-version").output().is_ok();
    let wanted = if is_there { "good" } else { "skipped" };
    assert!(level == wanted && (!is_there || jvm.contains("complete")), "{jvm}");
}

#[test]
fn refused_system_calls_are_named_with_the_profile() {
    let numbers = [libc::SYS_process_vm_readv, libc::SYS_ptrace, libc::SYS_perf_event_open];
    let prepare = move || refuse(&numbers, EPERM);
    let Some(findings) = examine("refused_system_calls", &[], prepare) else { return };
    let (_, filters) = found(&findings, "filters");
    assert!(filters.contains("Seccomp: 2") && filters.contains("NoNewPrivs"), "{filters}");
    let (_, calls) = found(&findings, "system calls");
    for words in
        ["process_vm_readv (EPERM)", "ptrace (EPERM)", "perf_event_open (EPERM)", "containerd"]
    {
        assert!(calls.contains(words), "{words}: {calls}");
    }
    // What breaks is a problem that names them; what does not is good.
    for check in ["threads", "jvm"] {
        let one = findings.iter().find(|one| one["check"] == check).expect("it was tried");
        let remedy = one["remedy"].as_str().unwrap_or_default();
        let is_told = ["warning", "problem"].contains(&one["level"].as_str().unwrap());
        assert!(!is_told || remedy.contains("process_vm_readv"), "{one}");
    }
}

#[test]
fn a_filter_that_kills_kills_no_doctor() {
    let numbers = [libc::SYS_userfaultfd, libc::SYS_io_uring_setup, libc::SYS_ptrace];
    let prepare = move || refuse(&numbers, libc::SECCOMP_RET_KILL_PROCESS);
    let Some(findings) = examine("a_filter_that_kills", &["--quick"], prepare) else { return };
    let (_, calls) = found(&findings, "system calls");
    for name in ["userfaultfd", "io_uring_setup", "ptrace"] {
        assert!(calls.contains(&format!("{name} (kills, signal 31)")), "{name}: {calls}");
    }
    assert_eq!(found(&findings, "counting").0, "good", "{findings:?}");
}

#[test]
fn limits_are_told() {
    let prepare = || {
        for (resource, value) in [(libc::RLIMIT_AS, 4 << 30), (libc::RLIMIT_MEMLOCK, 65536)] {
            let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
            // SAFETY: the structure is live.
            if unsafe { libc::setrlimit(resource, &limit) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    let Some(findings) = examine("limits_are_told", &["--quick"], prepare) else { return };
    let (level, limits) = found(&findings, "limits");
    assert_eq!(level, "warning", "{limits}");
    for words in ["address space 4294967296", "locked memory 65536"] {
        assert!(limits.contains(words), "{words}: {limits}");
    }
    assert!(found(&findings, "kernel limits").1.contains("max_map_count"), "{findings:?}");
}

/// systemd's MemoryDenyWriteExecute on kernels that have it.
#[test]
fn memory_that_may_not_be_executed_is_told() {
    const PR_SET_MDWE: i32 = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: u64 = 1;
    // SAFETY: arguments that no kernel takes: one that knows the call says so.
    let is_known = unsafe { libc::prctl(PR_SET_MDWE, u64::MAX, 0, 0, 0) } == -1
        && std::io::Error::last_os_error().raw_os_error() == Some(libc::EINVAL)
        // SAFETY: asks only.
        && unsafe { libc::prctl(66, 0, 0, 0, 0) } >= 0;
    if !is_known {
        return tests::skip::skip("memory_that_may_not_be_executed_is_told", "no PR_SET_MDWE here");
    }
    let prepare = || {
        // SAFETY: changes this process alone.
        match unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    let Some(findings) = examine("memory_that_may_not_be_executed", &["--quick"], prepare) else {
        return;
    };
    assert!(found(&findings, "filters").1.contains("PR_SET_MDWE"), "{findings:?}");
    let (level, memory) = found(&findings, "code memory");
    assert_eq!(level, "problem", "{memory}");
    let (_, calls) = found(&findings, "system calls");
    assert!(calls.contains("mprotect") && calls.contains("MemoryDenyWriteExecute"), "{calls}");
}
