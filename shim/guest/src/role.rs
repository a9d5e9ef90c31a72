//! What a process is, from its command line and environment.
//!
//! Sources: Spark's launchers. Standalone workers and YARN exec `java ... <backend class>
//! --driver-url .. --executor-id .. --hostname .. --app-id ..`; Kubernetes gives the ids in the
//! environment as well.

use alloc::vec::Vec;

/// What a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A program under `analyzer trace`, or one that `analyzer rewrite` made.
    Program,
    /// A Spark executor.
    Executor,
    /// A JVM with a driver in it; in local mode tasks run there.
    Driver,
    /// A PySpark worker or the daemon that forks them.
    PythonWorker,
    /// A JVM with nothing of Spark's: counted as a program where it is to be counted at all.
    Jvm,
    /// Anything else: shells, launchers, masters, workers, history servers.
    Other,
}

impl Role {
    /// Whether a JVM with this role may run Spark's tasks.
    pub const fn runs_tasks(self) -> bool {
        matches!(self, Role::Executor | Role::Driver)
    }

    /// The role's name in record headers and file names.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Program => "program",
            Role::Executor => "executor",
            Role::Driver => "driver",
            Role::PythonWorker => "python_worker",
            Role::Jvm => "jvm",
            Role::Other => "other",
        }
    }
}

/// What the command line and environment say about the Spark application; empty = not said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SparkIds {
    /// Application id.
    pub application: Vec<u8>,
    /// Application attempt.
    pub attempt: Vec<u8>,
    /// Executor id.
    pub executor: Vec<u8>,
    /// The executor's `--hostname`.
    pub hostname: Vec<u8>,
    /// Kubernetes pod.
    pub pod: Vec<u8>,
    /// YARN container.
    pub container: Vec<u8>,
}

/// The role, from the executed file's name, the arguments (the program's own name first) and
/// whether `analyzer trace` started the process. Allocates nothing.
pub fn from_arguments<'a>(
    executed: &[u8],
    mut arguments: impl Iterator<Item = &'a [u8]>,
    traced: bool,
) -> Role {
    if traced {
        return Role::Program;
    }
    let own_name = arguments.next().unwrap_or_default();
    let names = [base_name(executed), base_name(own_name)];
    // A script runs in its interpreter. The kernel says that the script was executed, and hands its
    // path over as the first argument, or the second if the #! line has one: version managers put
    // scripts named `java` and `python3` in front of the real ones.
    let arguments = arguments.enumerate().map(|(place, argument)| {
        let is_script = place < 2 && argument == executed;
        (!is_script).then_some(argument)
    });
    if names.contains(&b"java".as_slice()) {
        let mut telling = arguments
            .filter(|argument| argument.is_none_or(|text| text.starts_with(b"org.apache.spark.")));
        return match telling.next() {
            None => Role::Jvm,
            Some(None) => Role::Other,
            Some(Some(class)) => of_main_class(class),
        };
    }
    if names.iter().any(|name| name.starts_with(b"python") || name.starts_with(b"pypy")) {
        let mut after_m = false;
        for argument in arguments {
            let Some(argument) = argument else { return Role::Other };
            if after_m {
                let worker = argument == b"pyspark.daemon" || argument == b"pyspark.worker";
                return if worker { Role::PythonWorker } else { Role::Other };
            }
            after_m = argument == b"-m";
        }
    }
    Role::Other
}

/// The role of a process whose command line gives it none, with a rewritten file in it (`analyzer
/// rewrite`): a program of its own. Spark's launchers, masters and workers stay what they are: a
/// rewritten `java` runs them too.
pub fn when_rewritten<'a>(mut arguments: impl Iterator<Item = &'a [u8]>) -> Role {
    let is_spark = arguments.any(|argument| argument.starts_with(b"org.apache.spark."));
    if is_spark { Role::Other } else { Role::Program }
}

/// On YARN the driver is in it, in cluster mode.
const APPLICATION_MASTER: &[u8] = b"org.apache.spark.deploy.yarn.ApplicationMaster";

/// The role of a JVM with this main class. `spark-class` runs `launcher.Main` with the real class
/// as an argument, so only the first name of the command line counts.
fn of_main_class(class: &[u8]) -> Role {
    match class {
        b"org.apache.spark.executor.CoarseGrainedExecutorBackend"
        | b"org.apache.spark.executor.YarnCoarseGrainedExecutorBackend"
        | b"org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend" => Role::Executor,
        b"org.apache.spark.deploy.SparkSubmit"
        | b"org.apache.spark.deploy.worker.DriverWrapper"
        | APPLICATION_MASTER => Role::Driver,
        _ => Role::Other,
    }
}

fn base_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or(path)
}

/// The Spark ids, from options of the command line, else from the environment.
pub fn spark_ids<'a>(
    mut arguments: impl Iterator<Item = &'a [u8]>,
    environment: impl Iterator<Item = &'a [u8]>,
) -> SparkIds {
    let mut ids = SparkIds::default();
    let (mut of_yarn, mut is_master) = (Vec::new(), false);
    while let Some(argument) = arguments.next() {
        let field = match argument {
            b"--app-id" => &mut ids.application,
            b"--executor-id" => &mut ids.executor,
            b"--hostname" => &mut ids.hostname,
            b"--podName" => &mut ids.pod,
            _ => {
                is_master |= argument == APPLICATION_MASTER;
                continue;
            }
        };
        if let Some(value) = arguments.next() {
            *field = value.to_vec();
        }
    }
    for (name, value) in environment.filter_map(split_variable) {
        let field = match name {
            b"SPARK_APPLICATION_ID" => &mut ids.application,
            b"SPARK_EXECUTOR_ID" => &mut ids.executor,
            b"SPARK_EXECUTOR_POD_NAME" => &mut ids.pod,
            b"CONTAINER_ID" => {
                if let Some(yarn) = of_container(value) {
                    ids.attempt = yarn.attempt.to_vec();
                    ids.container = value.to_vec();
                    of_yarn = [b"application_", yarn.application].concat();
                }
                continue;
            }
            _ => continue,
        };
        if field.is_empty() {
            *field = value.to_vec();
        }
    }
    // The ApplicationMaster has it in no option. A job that is submitted from within a container, by a workflow's
    // launcher, is another application.
    if is_master && ids.application.is_empty() {
        ids.application = of_yarn;
    }
    ids
}

/// Splits `NAME=value`.
pub fn split_variable(variable: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = variable.iter().position(|&byte| byte == b'=')?;
    Some((&variable[..at], &variable[at + 1..]))
}

/// A setting's value from the environment, where it came there more than once. Spark's ApplicationMaster hands all variables
/// on to executors that begin with SPARK, ours too, and YARN adds what `yarn.nodemanager.admin-env` says with a
/// colon: `/records` becomes `/records:/records`.
pub fn said_once(value: &[u8]) -> &[u8] {
    let colons = (0..value.len()).filter(|&at| value[at] == b':');
    let mut first = colons.map(|at| &value[..at]);
    let repeats = |one: &&[u8]| {
        // As many times the same, with colons between.
        (value.len() + 1).is_multiple_of(one.len() + 1)
            && value
                .chunks(one.len() + 1)
                .all(|part| part.strip_suffix(b":").unwrap_or(part) == *one)
    };
    first.find(repeats).unwrap_or(value)
}

/// What a container's name says.
struct OfContainer<'a> {
    /// `<cluster>_<app>`, as in the application's id.
    application: &'a [u8],
    /// The attempt, without leading zeros.
    attempt: &'a [u8],
}

/// Reads `container_[e<epoch>_]<cluster>_<app>_<attempt>_<container>`.
fn of_container(name: &[u8]) -> Option<OfContainer<'_>> {
    let numbers = name.strip_prefix(b"container_")?;
    let is_number = |part: &[u8]| !part.is_empty() && part.iter().all(u8::is_ascii_digit);
    let mut parts = numbers.rsplitn(3, |&byte| byte == b'_').skip(1);
    let (attempt, before) = (parts.next()?, parts.next()?);
    let application = match before.iter().filter(|&&byte| byte == b'_').count() {
        2 => &before[1 + before.iter().position(|&byte| byte == b'_')?..],
        _ => before,
    };
    let mut of_application = application.split(|&byte| byte == b'_');
    let is_application = of_application.clone().count() == 2 && of_application.all(is_number);
    if !is_application || !is_number(attempt) {
        return None;
    }
    let zeros = attempt.iter().take_while(|&&byte| byte == b'0').count();
    Some(OfContainer { application, attempt: &attempt[zeros.min(attempt.len() - 1)..] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(line: &str) -> Role {
        let mut words = line.split(' ').map(str::as_bytes).peekable();
        let executed = words.peek().copied().unwrap_or_default();
        from_arguments(executed, words, false)
    }

    #[test]
    fn roles_of_real_command_lines() {
        for (line, expected) in [
            (
                "/usr/lib/jvm/java-17/bin/java -cp /conf/:/jars/* -Xmx1024M -Dspark.driver.port=1 -XX:+IgnoreUnrecognizedVMOptions org.apache.spark.executor.CoarseGrainedExecutorBackend --driver-url spark://CoarseGrainedScheduler@127.0.0.1:1 --executor-id 0 --hostname 127.0.0.1 --cores 1 --app-id app-20261121-0000 --worker-url spark://Worker@127.0.0.1:2",
                Role::Executor,
            ),
            (
                "/bin/java -server -Xmx1g org.apache.spark.executor.YarnCoarseGrainedExecutorBackend --executor-id 1",
                Role::Executor,
            ),
            (
                "java -Xms1g -cp /opt/spark/jars/* org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend --podName p",
                Role::Executor,
            ),
            (
                "java -cp x -Xmx1g org.apache.spark.deploy.SparkSubmit --master local[2] job.py",
                Role::Driver,
            ),
            (
                "java -cp x org.apache.spark.launcher.Main org.apache.spark.deploy.SparkSubmit job.py",
                Role::Other,
            ),
            ("java -cp x org.apache.spark.deploy.worker.Worker spark://h:1", Role::Other),
            ("java -jar org.apache.jar", Role::Jvm),
            ("/usr/bin/python3 -m pyspark.daemon pyspark.worker", Role::PythonWorker),
            ("/opt/venv/bin/python3.11 -s -m pyspark.worker", Role::PythonWorker),
            ("python3 -m http.server", Role::Other),
            ("bash -c java org.apache.spark.deploy.SparkSubmit", Role::Other),
            ("/usr/lib/jvm/java-17/lib/jspawnhelper 10:12", Role::Other),
            ("", Role::Other),
        ] {
            assert_eq!(role(line), expected, "{line}");
        }
        let in_front = "/bin/bash /home/u/.jenv/shims/java org.apache.spark.executor.CoarseGrainedExecutorBackend";
        let script = b"/home/u/.jenv/shims/java";
        assert_eq!(
            from_arguments(script, in_front.split(' ').map(str::as_bytes), false),
            Role::Other
        );
        let in_front = "/usr/bin/env bash /shims/python3 -m pyspark.daemon";
        let script = b"/shims/python3";
        assert_eq!(
            from_arguments(script, in_front.split(' ').map(str::as_bytes), false),
            Role::Other
        );
        assert_eq!(
            from_arguments(b"/bin/true", [b"true".as_slice()].into_iter(), true),
            Role::Program
        );
    }

    #[test]
    fn rewritten_files_make_programs_of_what_is_nothing_else() {
        let role = |line: &'static str| when_rewritten(line.split(' ').map(str::as_bytes));
        assert_eq!(role("/usr/local/sbin/service --port 1"), Role::Program);
        assert_eq!(role("/usr/bin/python3 script.py"), Role::Program);
        assert_eq!(role("java -cp x Main"), Role::Program);
        assert_eq!(
            role("java -cp x org.apache.spark.deploy.worker.Worker spark://h:1"),
            Role::Other
        );
    }

    #[test]
    fn values_that_came_twice() {
        for (value, expected) in [
            ("/records:/records", "/records"),
            ("all:all:all", "all"),
            ("a:b:a:b", "a:b"),
            ("/a:/b", "/a:/b"),
            ("/records", "/records"),
            ("1:11", "1:11"),
            ("a:a:", "a:a:"),
            ("a:", "a:"),
            ("", ""),
        ] {
            assert_eq!(said_once(value.as_bytes()), expected.as_bytes(), "{value}");
        }
    }

    #[test]
    fn ids_from_options_and_environment() {
        let line = b"java -Xmx1g org.apache.spark.executor.CoarseGrainedExecutorBackend --executor-id 7 --hostname node-3 --app-id app-1 --cores";
        let environment = [
            b"SPARK_EXECUTOR_ID=9".as_slice(),
            b"CONTAINER_ID=container_e17_1410901177871_0001_02_000005",
        ];
        let ids = spark_ids(line.split(|&b| b == b' '), environment.into_iter());
        assert_eq!(ids.application, b"app-1");
        assert_eq!(ids.executor, b"7");
        assert_eq!(ids.hostname, b"node-3");
        assert_eq!(ids.attempt, b"2");
        let master = || [b"java".as_slice(), APPLICATION_MASTER, b"--class"].into_iter();
        let ids = spark_ids(master(), environment[1..].iter().copied());
        assert_eq!(ids.application, b"application_1410901177871_0001");
        let ids = spark_ids([b"java".as_slice()].into_iter(), environment[1..].iter().copied());
        assert_eq!(ids.application, b"");
        let without_epoch = [b"CONTAINER_ID=container_1410901177871_0012_01_000001".as_slice()];
        let ids = spark_ids(master(), without_epoch.into_iter());
        assert_eq!(ids.application, b"application_1410901177871_0012");
        assert_eq!(ids.attempt, b"1");
        let pod = [
            b"SPARK_APPLICATION_ID=spark-abc".as_slice(),
            b"SPARK_EXECUTOR_ID=1",
            b"SPARK_EXECUTOR_POD_NAME=p-exec-1",
            b"CONTAINER_ID=nonsense",
        ];
        let ids = spark_ids([].into_iter(), pod.into_iter());
        assert_eq!((&ids.application[..], &ids.executor[..]), (&b"spark-abc"[..], &b"1"[..]));
        assert_eq!((&ids.pod[..], &ids.container[..]), (&b"p-exec-1"[..], &b""[..]));
    }
}
