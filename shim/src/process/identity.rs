//! Who a counted process is: everything that the header of its segments says.

use crate::{
    base::{
        clock, file, ids, link,
        startup::Startup,
        sys::{self, nr},
        tracer,
    },
    files::output_folder::OutputFolder,
    process::{application, task_method},
};
use alloc::{borrow::Cow, format, vec::Vec};
use conf::{Settings, settings::Tracer};
use guest::{
    directories::Directories,
    file_pattern::{self, Names},
    redact,
    role::{self, Role, SparkIds},
};
use records::{Header, MetricSet, ProcessId, Stamp, metric};

/// The identity of a counted process and the settings in force. Made once, never freed.
pub struct Identity {
    /// Random; new after fork and exec.
    pub process_id: ProcessId,
    /// The process that this one was forked from, if it was counted.
    pub parent: Option<ProcessId>,
    /// The number of the fork that made it among its parent's; 0 = none.
    pub parent_fork: u32,
    /// The role in force.
    pub role: Role,
    /// The role that the command line alone gives: a JVM under `analyzer trace` may be a driver too.
    pub spark_role: Role,
    /// Whether `analyzer trace` has started it or its parents: the output folder is its, and goes away with it.
    pub is_traced: bool,
    /// Whether this is the JDK's `java`, and runs no tasks.
    pub is_java_launcher: bool,
    /// Spark application id; empty = not known.
    pub application_id: &'static [u8],
    /// Spark executor id; empty = not known.
    pub executor_id: &'static [u8],
    /// The settings.
    pub settings: Settings,
    /// Where the files go.
    pub output_folder: OutputFolder,
    /// What their names begin with.
    pub file_prefix: Vec<u8>,
    /// Which files count.
    pub directories: Directories,
    /// Which metrics are counted.
    pub metrics: MetricSet,
    /// Whether the first file waits for the JVM bridge.
    pub waits_for_bridge: bool,
    spark: SparkIds,
    node: Vec<u8>,
    node_source: &'static str,
    host: Vec<u8>,
    boot_id: Vec<u8>,
    pid: u32,
    ppid: u32,
    start: Stamp,
    start_ticks: u64,
    comm: Vec<u8>,
    exe: Vec<u8>,
    command_line: Vec<u8>,
    container: Vec<u8>,
    starts_at: &'static str,
    settings_text: Vec<u8>,
}

impl Identity {
    /// Gathers it.
    pub fn gather(
        startup: &Startup,
        settings: Settings,
        output_folder: OutputFolder,
        is_traced: bool,
        role: Role,
        spark_role: Role,
        spark: SparkIds,
    ) -> Identity {
        let host = host_name();
        let (node, node_source) = if !settings.node.is_empty() {
            (settings.node.clone().into_bytes(), "conf")
        } else if !spark.hostname.is_empty() {
            (spark.hostname.clone(), "hostname_argument")
        } else {
            (host.clone(), "uname")
        };
        let boot_id = small_file(c"/proc/sys/kernel/random/boot_id");
        let container = if spark.container.is_empty() {
            container_of(&small_file(c"/proc/self/cgroup")).to_vec()
        } else {
            spark.container.clone()
        };
        let arguments = startup.arguments().map(|argument| argument.to_bytes());
        let settings_text: Vec<_> = settings.in_force().collect();
        let variable = |name: &[u8]| {
            startup
                .environment()
                .filter_map(|variable| role::split_variable(variable.to_bytes()))
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value)
        };
        let mut identity = Identity {
            process_id: random_id(),
            parent: None,
            parent_fork: 0,
            role,
            spark_role,
            is_traced,
            // Many a thing may be called java: the JDK's launcher has this function.
            is_java_launcher: spark_role == Role::Jvm && link::find(c"JLI_Launch").is_some(),
            application_id: spark.application.clone().leak(),
            executor_id: spark.executor.clone().leak(),
            output_folder,
            file_prefix: Vec::new(),
            directories: Directories::new(&settings.directories),
            metrics: metrics_of(&settings),
            waits_for_bridge: spark_role.runs_tasks(),
            spark,
            node,
            node_source,
            host,
            boot_id,
            pid: 0,
            ppid: 0,
            start: Stamp::default(),
            start_ticks: 0,
            comm: Vec::new(),
            exe: Vec::new(),
            command_line: redact::command_line(arguments, &settings.redact),
            container,
            starts_at: "constructor",
            settings_text: settings_text.join("\n").into_bytes(),
            settings,
        };
        identity.describe_process();
        identity.file_prefix = file_pattern::expand(
            identity.settings.file_name.as_bytes(),
            &identity.names(),
            |name| match redact::is_secret_name(name, &identity.settings.redact) {
                true => Some(b"redacted"),
                false => variable(name),
            },
        );
        identity
    }

    /// The identity of a child made by the fork of this number: a new process in the same program.
    pub fn of_child(&self, fork: u32) -> Identity {
        let mut child = Identity {
            process_id: random_id(),
            parent: Some(self.process_id),
            parent_fork: fork,
            settings: self.settings.clone(),
            output_folder: self.output_folder.clone(),
            file_prefix: Vec::new(),
            directories: self.directories.clone(),
            spark: self.spark.clone(),
            node: self.node.clone(),
            host: self.host.clone(),
            boot_id: self.boot_id.clone(),
            comm: Vec::new(),
            exe: Vec::new(),
            command_line: self.command_line.clone(),
            container: self.container.clone(),
            settings_text: self.settings_text.clone(),
            waits_for_bridge: false,
            starts_at: "fork",
            ..*self
        };
        child.describe_process();
        // Variables in the pattern were those of the parent's start, and still are: its expansion serves.
        let number = format!("{}", self.pid);
        let position = self
            .file_prefix
            .windows(number.len().max(1))
            .rposition(|part| part == number.as_bytes());
        child.file_prefix = match position {
            Some(at) if self.settings.file_name.contains("%p") => {
                let mut prefix = self.file_prefix[..at].to_vec();
                prefix.extend_from_slice(format!("{}", child.pid).as_bytes());
                prefix.extend_from_slice(&self.file_prefix[at + number.len()..]);
                prefix
            }
            _ => self.file_prefix.clone(),
        };
        child
    }

    fn describe_process(&mut self) {
        self.pid = ids::getpid();
        self.ppid = ids::getppid();
        self.start = clock::stamp();
        let mut name = [0u8; 16];
        sys::thread_name(&mut name);
        self.comm = name.split(|&byte| byte == 0).next().unwrap_or_default().to_vec();
        let mut path = [0u8; 1024];
        let exe = file::read_link(c"/proc/self/exe", &mut path).unwrap_or_default();
        self.exe = self.redacted(exe).into_owned();
        self.start_ticks = start_ticks(&small_file(c"/proc/self/stat"));
    }

    fn names(&self) -> Names<'_> {
        Names {
            node: &self.node,
            host: &self.host,
            pid: self.pid,
            application: self.application_id,
            executor: self.executor_id,
            role: self.role.name().as_bytes(),
        }
    }

    /// A path as it may be stored.
    pub fn redacted<'a>(&self, path: &'a [u8]) -> Cow<'a, [u8]> {
        redact::path(path, &self.settings.redact).map_or(Cow::Borrowed(path), Cow::Owned)
    }

    /// The process's number.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// The header of a segment.
    pub fn header(&self, segment: u32) -> Header<'_> {
        let tracer = match self.settings.tracer {
            chosen if tracer::is_running() => conf::value::Choice::word(chosen),
            _ => conf::value::Choice::word(Tracer::None),
        };
        let metrics = if tracer::is_running() {
            self.metrics
        } else {
            self.metrics.difference(MetricSet::ENGINE)
        };
        Header {
            segment,
            process_id: self.process_id,
            parent_process: self.parent,
            parent_fork: self.parent_fork,
            node: &self.node,
            node_source: self.node_source.as_bytes(),
            cluster: self.settings.cluster.as_bytes(),
            host: &self.host,
            boot_id: &self.boot_id,
            pid: self.pid,
            ppid: self.ppid,
            start_mono_ns: self.start.mono_ns,
            start_real_ns: self.start.real_ns,
            start_ticks: self.start_ticks,
            role: self.role.name().as_bytes(),
            application_id: match self.application_id {
                [] => application::answered().0,
                known => known,
            },
            application_attempt: &self.spark.attempt,
            executor_id: match self.executor_id {
                [] => application::answered().1,
                known => known,
            },
            comm: &self.comm,
            exe: &self.exe,
            command_line: &self.command_line,
            tracer: tracer.as_bytes(),
            task_method: task_method::get(),
            starts_at: self.starts_at.as_bytes(),
            settings: &self.settings_text,
            container: &self.container,
            pod: &self.spark.pod,
            metrics,
        }
    }
}

fn metrics_of(settings: &Settings) -> MetricSet {
    let mut set = MetricSet::EMPTY;
    for group in &settings.metrics {
        set = set.union(MetricSet::group(*group));
    }
    for class in metric::Class::ALL {
        if !settings.syscall_classes.contains(&class) {
            set = set.difference(MetricSet::class(class));
        }
    }
    set
}

fn random_id() -> ProcessId {
    let mut id = ProcessId::default();
    fill_random(&mut id);
    id
}

fn host_name() -> Vec<u8> {
    // struct new_utsname: six names of 65 bytes; the second is the host's.
    let mut names = [0u8; 6 * 65];
    // SAFETY: the kernel fills the structure.
    unsafe { sys::call1(nr::UNAME, names.as_mut_ptr() as u64) };
    names[65..130].split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

/// A small file's text without the newline at its end; empty if it cannot be read.
fn small_file(path: &core::ffi::CStr) -> Vec<u8> {
    let mut text = file::read_file(path, 64 * 1024).unwrap_or_default();
    while text.last() == Some(&b'\n') {
        text.pop();
    }
    text
}

/// Field 22 of /proc/self/stat; the second one, the name in parentheses, may hold anything.
fn start_ticks(stat: &[u8]) -> u64 {
    let after_name = stat.iter().rposition(|&byte| byte == b')').map_or(0, |at| at + 2);
    stat.get(after_name..)
        .and_then(|rest| rest.split(|&byte| byte == b' ').nth(19))
        .and_then(|digits| core::str::from_utf8(digits).ok()?.parse().ok())
        .unwrap_or(0)
}

/// The container's id in /proc/self/cgroup: the last run of 64 hexadecimal digits.
fn container_of(cgroup: &[u8]) -> &[u8] {
    const DIGITS: usize = 64;
    cgroup
        .windows(DIGITS)
        .rev()
        .find(|part| part.iter().all(u8::is_ascii_hexdigit))
        .unwrap_or_default()
}

/// Fills the buffer with random bytes.
fn fill_random(buffer: &mut [u8]) {
    let arguments = [buffer.as_mut_ptr() as u64, buffer.len() as u64, 0, 0, 0, 0];
    // SAFETY: the kernel writes within the buffer only; up to 256 bytes come in one piece.
    let got = unsafe { engine::sys::optional(nr::GETRANDOM, arguments) };
    if got < buffer.len() as i64 {
        // Not asked or not to be had: unique all the same, by the clock's nanoseconds and the process's id.
        let mut state = clock::stamp();
        state.mono_ns ^= u64::from(ids::getpid()) << 40;
        for byte in buffer {
            // SplitMix64 (Steele, Lea, Flood 2014).
            state.mono_ns = state.mono_ns.wrapping_add(0x9e37_79b9_7f4a_7c15 ^ state.real_ns);
            let mixed = (state.mono_ns ^ state.mono_ns >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *byte = (mixed ^ mixed >> 27) as u8;
        }
    }
}
