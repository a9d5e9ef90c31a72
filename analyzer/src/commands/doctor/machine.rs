//! The machine: kernel, processor, memory that may be executed.

use std::fs;

use crate::commands::doctor::confinement::{Answers, errno};
use crate::commands::doctor::findings::Findings;
use crate::commands::doctor::probe::{Answer, WRITE_AND_EXECUTE};

/// Checks it.
pub fn check(findings: &mut Findings, answers: &Answers) {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    match std::env::consts::ARCH {
        "x86_64" => findings.good("kernel", format!("Linux {kernel}, x86-64")),
        other => findings.problem(
            "kernel",
            format!("Linux {kernel} on {other}"),
            "the library is for x86-64 processors alone",
        ),
    }
    check_processor(findings, &read("/proc/cpuinfo").unwrap_or_default());
    let is_enforcing = read("/sys/fs/selinux/enforce").as_deref() == Some("1");
    check_executable_memory(findings, answers.of(WRITE_AND_EXECUTE), is_enforcing);
    if read("/proc/sys/vm/overcommit_memory").as_deref() == Some("2") {
        findings.warning(
            "memory",
            "vm.overcommit_memory is 2: address space is limited, and a followed thread reserves 8.5 MB of it",
            "sysctl vm.overcommit_memory=0, or a higher vm.overcommit_ratio",
        );
    }
}

fn check_processor(findings: &mut Findings, cpuinfo: &str) {
    let field = |name: &str| {
        let line = cpuinfo.lines().find(|line| line.starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let flags = field("flags").unwrap_or_default();
    let has = |flag: &str| flags.split(' ').any(|one| one == flag);
    let model = field("model name").unwrap_or_else(|| "unknown model".into());
    if has("fsgsbase") {
        let vectors = ["avx512f", "avx2", "avx"].into_iter().find(|flag| has(flag));
        let widest = vectors.unwrap_or("sse2");
        findings.good("processor", format!("{model}, fsgsbase, {widest}"));
    } else {
        findings.warning(
            "processor",
            format!("{model} has no fsgsbase, or the hypervisor hides it"),
            "counting works by system calls instead, and is slower where threads start and end",
        );
    }
}

/// Memory that may be written and executed at once, as the engine's code cache is.
fn check_executable_memory(findings: &mut Findings, answer: Answer, is_enforcing: bool) {
    let selinux = if is_enforcing { ", SELinux enforcing" } else { "" };
    let error = match answer {
        Answer::Refused(error) => errno(error).to_owned(),
        Answer::Killed(signal) => format!("signal {signal} kills who asks"),
        Answer::Allowed => {
            return findings.good("code memory", format!("may be written and executed{selinux}"));
        }
        Answer::Unknown => {
            return findings.skipped("code memory", "a child that asks could not be started");
        }
    };
    findings.problem(
        "code memory",
        format!("memory that is writable and executable is denied: {error}{selinux}"),
        "allow execmem to the executors' domain (SELinux), or loosen the seccomp profile or \
         MemoryDenyWriteExecute of the service; tracer = \"none\" counts system calls without it",
    );
}
