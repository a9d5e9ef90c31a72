//! The table of settings.

use crate::value::{Bounded, Raw, Value};
use alloc::{string::String, vec, vec::Vec};
use metrics::{Class, Group};

crate::choice! {
    /// When the shim counts in a process whose role asks for it.
    Enabled {
        /// Always: preloading is the activation.
        All = "all",
        /// Only where `SPARKANALYZER_ENABLED=all` is in the environment.
        Request = "request",
        /// Never.
        Off = "off",
    }
}

crate::choice! {
    /// Roles that can be chosen. A program under `analyzer trace` is always counted, anything else never.
    Role {
        /// A Spark executor (standalone, YARN, Kubernetes).
        Executor = "executor",
        /// A SparkSubmit JVM: a driver, and in local mode the place where tasks run.
        Driver = "driver",
        /// A PySpark worker or its daemon.
        Python = "python",
        /// A program that `analyzer rewrite` made, in none of the other roles.
        Program = "program",
    }
}

crate::choice! {
    /// What counts instructions and memory accesses.
    Tracer {
        /// The translator.
        Engine = "engine",
        /// frida-gum's Stalker, in libshim_gum.so.
        Gum = "gum",
        /// Nothing: system calls only.
        None = "none",
    }
}

crate::choice_of_table!(Group);
crate::choice_of_table!(Class);

crate::choice! {
    /// How much the shim says about itself.
    LogLevel {
        /// Nothing.
        Off = "off",
        /// What does not work.
        Error = "error",
        /// And what is left out.
        Warn = "warn",
        /// And what was decided.
        Info = "info",
        /// And what happens.
        Debug = "debug",
    }
}

crate::choice! {
    /// What the engine follows of Spark's processes.
    Scope {
        /// In JVMs a thread from its task's start to its end; Python workers as a whole.
        Task = "task",
        /// All threads of executors and Python workers; in drivers a thread during its task.
        Executor = "executor",
        /// All threads of every counted process.
        Process = "process",
    }
}

crate::choice! {
    /// What becomes of the threads that a followed task starts.
    TaskThreads {
        /// They run natively.
        Native = "native",
        /// They are followed, and count for their task until it ends.
        Followed = "followed",
    }
}

/// One row of the table.
pub struct Setting {
    /// The key in the file; in the environment it is `SPARKANALYZER_` and the key in capitals.
    pub key: &'static str,
    /// What it does.
    pub doc: &'static str,
    /// What type it has, for people.
    pub type_name: fn() -> String,
    /// The default, as TOML.
    pub default: fn() -> String,
    pub(crate) set_raw: fn(&mut Settings, &Raw) -> Result<(), String>,
    pub(crate) set_text: fn(&mut Settings, &str) -> Result<(), String>,
    pub(crate) get: fn(&Settings) -> String,
}

macro_rules! settings {
    ($( $( #[doc = $doc:literal] )* $key:ident: $type:ty = $default:expr; )*) => {
        /// All settings with their values in force.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings { $( $( #[doc = $doc] )* pub $key: $type, )* }

        impl Default for Settings {
            fn default() -> Self {
                Settings { $( $key: $default, )* }
            }
        }

        /// The table, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[ $( Setting {
            key: stringify!($key),
            doc: concat!($( $doc, "\n" ),*),
            type_name: <$type as Value>::type_name,
            default: || { let value: $type = $default; value.to_toml() },
            set_raw: |settings, raw| {
                settings.$key = Value::from_raw(raw)?;
                Ok(())
            },
            set_text: |settings, text| {
                settings.$key = Value::from_text(text)?;
                Ok(())
            },
            get: |settings| settings.$key.to_toml(),
        } ),* ];
    };
}

settings! {
    /// When to count: "all" (preloading the library is the activation), "request" (only processes with
    /// SPARKANALYZER_ENABLED=all in their environment) or "off".
    enabled: Enabled = Enabled::All;
    /// Which processes are counted; "program" is any other one that `analyzer rewrite` made. A program
    /// under `analyzer trace` always is; whatever has none of these roles never is.
    roles: Vec<Role> = vec![Role::Executor, Role::Driver, Role::Python, Role::Program];
    /// Count only processes of these users (names or numeric ids); empty = of all.
    users: Vec<String> = Vec::new();
    /// Count only these applications (the beginning of the application id); empty = all.
    applications: Vec<String> = Vec::new();
    /// Count one executor out of this many, chosen by a hash of application and executor id.
    sample_one_in: Bounded<1, 1_000_000> = Bounded(1);
    /// What counts instructions and memory accesses: "engine", "none" for system calls alone, or "gum" with
    /// libshim_gum.so, for native programs only.
    tracer: Tracer = Tracer::Engine;
    /// What the tracer follows of Spark's processes: "task" (in JVMs a thread from its task's start to its
    /// end, everything else runs natively; Python workers as a whole), "executor" (all threads of executors)
    /// or "process" (all threads of drivers too). Programs under `analyzer trace` are followed as a whole.
    scope: Scope = Scope::Task;
    /// The threads that a followed task starts: "native" (they are followed as the scope says, and never count for
    /// the task) or "followed" (from their first instruction to their end; what they have done when the task
    /// ends counts for it, what they do later is outside tasks).
    task_threads: TaskThreads = TaskThreads::Native;
    /// Groups of metrics to count.
    metrics: Vec<Group> = Group::ALL.to_vec();
    /// Kinds of descriptors whose system calls are counted.
    syscall_classes: Vec<Class> = Class::ALL.to_vec();
    /// Count system calls on files only below these directories (absolute paths); empty = on all files.
    directories: Vec<String> = Vec::new();
    /// Tell apart by directory what is read and written in files. The names of directories are then in the record
    /// files, without the values of such parts as token=VALUE (see redact).
    per_directory: bool = true;
    /// Where the record files go. Made if it is missing (mode 0750, for the process's user alone). It must belong to
    /// root or to the process's effective user, and nobody else may write to it unless it is sticky (mode 1777, for
    /// several users); nor may it be a symbolic link. Files get the process's own group, even where the folder is
    /// set-gid. A process that should be counted and cannot write there says so on standard error, once; under
    /// `analyzer trace` the analyzer says it.
    output_dir: String = String::from("/var/tmp/sparkanalyzer");
    /// Name of a record file, before "-<process id>.<segment>.sar": %n node, %h host, %p pid,
    /// %a application id, %e executor id, %r role, %{NAME} an environment variable, %% a percent sign.
    file_name: String = String::from("%n-%p");
    /// Name of this node; empty = the executor's --hostname, else the host's name.
    node: String = String::new();
    /// Name of the cluster, part of a task's identity.
    cluster: String = String::new();
    /// Time between two periodic snapshots, in milliseconds.
    snapshot_interval_ms: Bounded<10, 3_600_000> = Bounded(1000);
    /// Size after which a new segment (file) is begun.
    segment_bytes: Bounded<65_536, 1_099_511_627_776> = Bounded(64 << 20);
    /// Size that the segments of one process may reach together. Near it periodic snapshots become
    /// rare, past it they stop; ends of tasks, threads and the process are still written.
    max_bytes_per_process: Bounded<65_536, 1_099_511_627_776> = Bounded(256 << 20);
    /// Size on disk that the record files of one user in output_dir may reach together, looked at every minute.
    max_bytes_per_directory: Bounded<65_536, 1_125_899_906_842_624> = Bounded(8 << 30);
    /// Memory that the shim and the engine may map, in MiB; it counts against the container.
    memory_limit_mib: Bounded<4, 1_048_576> = Bounded(64);
    /// Options of the command line, and parts of directories' names, whose value is not stored: those with
    /// one of these words in their name. Passwords in URLs are never stored.
    redact: Vec<String> = vec![
        String::from("secret"), String::from("password"), String::from("token"),
        String::from("access.key"), String::from("accesskey"),
    ];
    /// How much the shim says about itself: "off", "error", "warn", "info" or "debug".
    log_level: LogLevel = LogLevel::Off;
    /// File that its messages are appended to; empty = standard error. It must be a regular file of root or of the
    /// process's user, and no symbolic link; made if it is missing (mode 0640).
    log_file: String = String::new();
}

impl Settings {
    /// Every setting as a line `key = value`, defaults included.
    pub fn in_force(&self) -> impl Iterator<Item = String> + '_ {
        SETTINGS
            .iter()
            .map(move |setting| alloc::format!("{} = {}", setting.key, (setting.get)(self)))
    }
}

/// The documented file: every key with its description and default, as shipped in
/// `conf/sparkanalyzer.toml`.
pub fn document() -> String {
    let mut text = String::from(
        "# Settings of libshim.so, as they are by default. The file is looked for in\n\
         # /etc/sparkanalyzer/sparkanalyzer.toml; SPARKANALYZER_CONF names another one. Each key can also be\n\
         # given in the environment: SPARKANALYZER_OUTPUT_DIR=/data/records, lists separated by commas.\n\
         # With a mistake in here the library does nothing, and says on standard error what and where.\n\
         #\n\
         # A process of root, or with capabilities, does not follow its environment where that may be another\n\
         # user's: SUDO_UID, PKEXEC_UID or DOAS_USER is somebody else, or a folder on the way to what\n\
         # SPARKANALYZER_OUTPUT_DIR, _CONF or _LOG_FILE names belongs to another user, or others may write to it.\n\
         # Then only /etc/sparkanalyzer/sparkanalyzer.toml counts, which must be root's and writable by root alone.\n",
    );
    for setting in SETTINGS {
        text.push('\n');
        for line in setting.doc.lines() {
            text += &alloc::format!("#{line}\n");
        }
        text += &alloc::format!("{} = {}\n", setting.key, (setting.default)());
    }
    text
}
