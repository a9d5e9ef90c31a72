//! What confines the processes here: filters of system calls, lost rights, limits, and of which container or service
//! profile that is the mark.

use std::fs;

use crate::commands::doctor::findings::Findings;
use crate::commands::doctor::probe::{Answer, PROBES};

/// Profiles that are known by what they refuse. The first of which all is refused is named.
const PROFILES: [(&[&str], &str); 4] = [
    (
        &["process_vm_readv"],
        "containerd's default up to 1.6, or that of podman and CRI-O in many versions, without CAP_SYS_PTRACE",
    ),
    (
        &["mmap (write and execute)", "mprotect (to execute)"],
        "a service with MemoryDenyWriteExecute, or SELinux without execmem",
    ),
    (
        &["perf_event_open", "io_uring_setup"],
        "a container engine's default of these days (RuntimeDefault of Kubernetes)",
    ),
    (&["perf_event_open"], "a container engine's default, or kernel.perf_event_paranoid"),
];

/// What became of each probe.
pub struct Answers(Vec<(&'static str, Answer)>);

/// Tries all system calls.
pub fn ask() -> Answers {
    Answers(PROBES.iter().map(|probe| (probe.name, probe.ask())).collect())
}

impl Answers {
    /// What became of this one.
    pub fn of(&self, name: &str) -> Answer {
        let found = self.0.iter().find(|(known, _)| *known == name);
        found.map_or(Answer::Unknown, |(_, answer)| *answer)
    }
}

/// Says what confines processes here; the names of the system calls that are refused.
pub fn check(findings: &mut Findings, answers: &Answers) -> Vec<&'static str> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let refused = check_system_calls(findings, &status, answers);
    check_limits(findings);
    check_kernel(findings);
    refused
}

/// A field of /proc/self/status.
fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    let line = status.lines().find(|line| line.split(':').next() == Some(name))?;
    line.split_once(':').map(|(_, value)| value.trim())
}

fn check_system_calls(
    findings: &mut Findings,
    status: &str,
    Answers(answers): &Answers,
) -> Vec<&'static str> {
    let filters = field(status, "Seccomp_filters").unwrap_or("some");
    let filter = match field(status, "Seccomp") {
        Some("0") => "no filter of system calls".to_owned(),
        Some("2") => format!("{filters} filter(s) of system calls (Seccomp: 2)"),
        Some(mode) => format!("Seccomp: {mode}"),
        None => "filters of system calls unknown: no /proc/self/status".to_owned(),
    };
    let mut marks = vec![filter];
    if field(status, "NoNewPrivs") == Some("1") {
        marks.push("NoNewPrivs".into());
    }
    if let Some(capabilities) = field(status, "CapEff") {
        let capabilities = capabilities.trim_start_matches('0');
        marks.push(match capabilities {
            "" => "no capabilities".to_owned(),
            some => format!("capabilities {some}"),
        });
    }
    if denies_write_execute() {
        marks.push("PR_SET_MDWE".into());
    }
    let refused: Vec<_> =
        answers.iter().filter(|(_, answer)| answer.is_refusal()).map(|(name, _)| *name).collect();
    let named = |name: &str, answer: Answer| match answer {
        Answer::Refused(error) => format!("{name} ({})", errno(error)),
        Answer::Killed(signal) => format!("{name} (kills, signal {signal})"),
        Answer::Allowed | Answer::Unknown => name.to_owned(),
    };
    let of = |wanted: fn(&Answer) -> bool| {
        let all = answers.iter().filter(|(_, answer)| wanted(answer));
        all.map(|(name, answer)| named(name, *answer)).collect::<Vec<_>>().join(", ")
    };
    let list = of(|answer| answer.is_refusal());
    let unknown = of(|answer| *answer == Answer::Unknown);
    findings.good("filters", marks.join(", "));
    if !unknown.is_empty() {
        findings.skipped("system calls", format!("no answer of {unknown}"));
    }
    if refused.is_empty() {
        findings.good("system calls", "none of those that profiles refuse is refused");
    } else {
        let like = profile_of(&refused);
        let like = like.map_or_else(String::new, |like| format!("\nas under {like}"));
        // Whether it matters the trials say.
        findings.good("system calls", format!("refused here: {list}{like}"));
    }
    refused
}

/// The profile that refuses these.
pub fn profile_of(refused: &[&str]) -> Option<&'static str> {
    let is_like = |marks: &[&str]| marks.iter().all(|mark| refused.contains(mark));
    PROFILES.iter().find(|(marks, _)| is_like(marks)).map(|(_, profile)| *profile)
}

/// An errno's name.
pub fn errno(error: i32) -> &'static str {
    match error {
        libc::EPERM => "EPERM",
        libc::EACCES => "EACCES",
        libc::ENOSYS => "ENOSYS",
        libc::ENOSPC => "ENOSPC",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EMFILE => "EMFILE",
        _ => "refused",
    }
}

fn denies_write_execute() -> bool {
    const PR_GET_MDWE: i32 = 66;
    // SAFETY: asks only; kernels that do not know it say so.
    unsafe { libc::prctl(PR_GET_MDWE, 0, 0, 0, 0) > 0 }
}

/// Address space that a followed JVM wants beside what it reserves itself.
const LITTLE_ADDRESS_SPACE: u64 = 8 << 30;

fn check_limits(findings: &mut Findings) {
    let limit = |resource| {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: the structure is written to.
        let code = unsafe { libc::getrlimit(resource, &mut limit) };
        (code == 0 && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
    };
    let space = limit(libc::RLIMIT_AS);
    let shown = |value: Option<u64>| value.map_or_else(|| "unlimited".into(), |v| v.to_string());
    let found = format!(
        "address space {}, processes {}, open files {}, locked memory {}",
        shown(space),
        shown(limit(libc::RLIMIT_NPROC)),
        shown(limit(libc::RLIMIT_NOFILE)),
        shown(limit(libc::RLIMIT_MEMLOCK)),
    );
    let files = limit(libc::RLIMIT_NOFILE);
    if space.is_some_and(|bytes| bytes < LITTLE_ADDRESS_SPACE) {
        let remedy =
            "ulimit -v unlimited: a followed JVM reserves more, and each followed thread 8.5 MB";
        findings.warning("limits", found, remedy);
    } else if files.is_some_and(|files| files < 64) {
        findings.warning("limits", found, "ulimit -n 1024: the library opens files of its own");
    } else {
        findings.good("limits", found);
    }
}

fn check_kernel(findings: &mut Findings) {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned()).ok();
    let mut found = Vec::new();
    for (name, path) in [
        ("yama.ptrace_scope", "/proc/sys/kernel/yama/ptrace_scope"),
        ("perf_event_paranoid", "/proc/sys/kernel/perf_event_paranoid"),
        ("io_uring_disabled", "/proc/sys/kernel/io_uring_disabled"),
        ("max_map_count", "/proc/sys/vm/max_map_count"),
        ("overcommit_memory", "/proc/sys/vm/overcommit_memory"),
    ] {
        found.extend(read(path).map(|value| format!("{name} {value}")));
    }
    if let Some((limit, place)) = memory_limit(&read) {
        found.push(format!("memory limit {limit} ({place})"));
    }
    let maps: Option<u64> = read("/proc/sys/vm/max_map_count").and_then(|text| text.parse().ok());
    const USUAL_MAPS: u64 = 65530;
    if maps.is_some_and(|maps| maps < USUAL_MAPS) {
        let remedy = format!(
            "sysctl vm.max_map_count={USUAL_MAPS}: each followed thread needs some mappings"
        );
        findings.warning("kernel limits", found.join(", "), remedy);
    } else {
        findings.good("kernel limits", found.join(", "));
    }
}

/// The nearest memory limit of the control groups above this process, and where it is set.
fn memory_limit(read: &impl Fn(&str) -> Option<String>) -> Option<(u64, String)> {
    let groups = read("/proc/self/cgroup")?;
    let mut least: Option<(u64, String)> = None;
    let mut look = |place: String| {
        let limit = read(&place).and_then(|text| text.parse::<u64>().ok());
        // Version 1 says "no limit" by the largest number of pages.
        if let Some(limit) = limit.filter(|limit| *limit < 1 << 62)
            && least.as_ref().is_none_or(|(known, _)| limit < *known)
        {
            least = Some((limit, place));
        }
    };
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?);
        let (root, file) = if controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|one| one == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let mut path = path.trim_end_matches('/');
        loop {
            look(format!("{root}{path}/{file}"));
            let Some((above, _)) = path.rsplit_once('/') else { break };
            path = above;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_known_by_what_they_refuse() {
        let like = |refused: &[&str], words: &str| {
            profile_of(refused).is_some_and(|profile| profile.contains(words))
        };
        assert!(like(&["ptrace", "process_vm_readv", "perf_event_open"], "containerd"));
        assert!(like(&["io_uring_setup", "perf_event_open"], "RuntimeDefault"));
        assert!(like(&["mmap (write and execute)", "mprotect (to execute)"], "MemoryDeny"));
        assert_eq!(profile_of(&["userfaultfd"]), None);
    }

    #[test]
    fn the_nearest_memory_limit_counts() {
        let machine = |path: &str| {
            let text = match path {
                "/proc/self/cgroup" => "0::/pods/one\n",
                "/sys/fs/cgroup/pods/one/memory.max" => "max",
                "/sys/fs/cgroup/pods/memory.max" => "1048576",
                _ => return None,
            };
            Some(text.trim().to_owned())
        };
        let found = memory_limit(&machine).expect("a limit");
        assert_eq!(found, (1_048_576, "/sys/fs/cgroup/pods/memory.max".to_owned()));
        let old = |path: &str| match path {
            "/proc/self/cgroup" => Some("4:cpu,memory:/a\n1:name=systemd:/\n".to_owned()),
            "/sys/fs/cgroup/memory/a/memory.limit_in_bytes" => Some("4096".to_owned()),
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => Some("9223372036854771712".to_owned()),
            _ => None,
        };
        assert_eq!(memory_limit(&old).map(|found| found.0), Some(4096));
    }
}
