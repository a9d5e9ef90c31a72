"""Spark as the tests run it: versions, clusters and jobs with the library, and what comes out of them."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "demo")]

import cluster as standalone  # noqa: E402
import fetch  # noqa: E402
from observed import EventLog, Records, differences  # noqa: E402

VERSIONS = ("4.3.0", "3.5.9")
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
BIN = pathlib.Path(os.environ.get("SPARKANALYZER_TEST_BIN") or TARGET / "release").resolve()
ANALYZER, SHIM = BIN / "analyzer", BIN / "libshim.so"
SUBMIT_SECONDS = 300


class Skip(Exception):
    """This test cannot run here; the message says why."""


class Spark:
    """One Spark version: its home, a Java, a scratch directory, and the reference results."""

    # By program and its arguments but for paths; of all versions.
    whole_numbers = {}

    def __init__(self, version, home, java, scratch):
        self.version, self.home, self.java, self.scratch = version, home, java, scratch
        self.references = {}

    def cluster(self, name, cores=1, **environment):
        """A cluster of two workers whose environment switches the library on."""
        records = self.scratch / name / "records"
        records.mkdir(parents=True)
        worker_env = {"LD_PRELOAD": SHIM, "SPARKANALYZER_OUTPUT_DIR": records, **environment}
        return standalone.Cluster(self.home, self.scratch / name / "cluster", self.java, cores=cores, worker_env=worker_env)

    def options(self, name, program, arguments, *more):
        """spark-submit's arguments after --master: event log in `name`/events, job, job's arguments."""
        events = self.scratch / name / "events"
        events.mkdir(parents=True, exist_ok=True)
        conf = {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": f"file://{events}",
            "spark.eventLog.compress": "false",
            "spark.eventLog.rolling.enabled": "false",
            "spark.executor.memory": "512m",
            "spark.sql.shuffle.partitions": "4",
        }
        settings = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
        return [*settings, *more, str(HERE / "jobs" / program), *map(str, arguments)]

    def local(self, name, program, arguments, preload=None, master="local[2,4]", java=None, more=(), **variables):
        """Runs a job in local mode; with `preload`, a libshim.so, the driver's JVM, where the tasks run, is counted."""
        alone = standalone.Cluster(self.home, self.scratch / name / "cluster", java or self.java)
        alone.work.mkdir(parents=True)
        environment = alone.environment(alone.prepare_driver())
        if preload:
            records = self.scratch / name / "records"
            records.mkdir()
            environment.update(LD_PRELOAD=str(preload), SPARKANALYZER_OUTPUT_DIR=str(records), **variables)
        command = [self.home / "bin" / "spark-submit", "--master", master]
        command += self.options(name, program, arguments, *more)
        run_to_end(command, environment, self.scratch / name / "submit.log")

    def submit(self, cluster, name, program, arguments, *more):
        """Starts a job on the cluster; returns the process, its log is in `name`/submit.log."""
        command = [self.home / "bin" / "spark-submit", "--master", cluster.url]
        command += self.options(name, program, arguments, *more)
        with open(self.scratch / name / "submit.log", "wb") as log:
            return subprocess.Popen(
                command,
                env=cluster.driver_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=standalone.die_with_parent,
            )

    def finish(self, process, name):
        """Waits for a job; it must succeed."""
        try:
            code = process.wait(SUBMIT_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name}: no end within {SUBMIT_SECONDS} s: {tail(self.scratch / name)}") from None
        assert code == 0, f"{name}: spark-submit ended with {code}: {tail(self.scratch / name)}"

    def reference(self, program, arguments):
        """The results of a run in local mode without the library, computed once: sums of whole numbers and of hashes, which are
        the same in every version of Spark."""
        key = (program, *(argument for argument in arguments if not isinstance(argument, pathlib.Path)))
        if key not in self.whole_numbers:
            name = f"reference-{program.removesuffix('.py')}-{len(self.whole_numbers)}"
            out = self.scratch / name / "out"
            self.local(name, program, [*arguments, f"file://{out}"])
            self.whole_numbers[key] = results(out)
        return self.whole_numbers[key]

    def input(self):
        """The input of real_work.py, generated once."""
        data = self.scratch.parent / "input"
        if not data.exists():
            subprocess.run([sys.executable, HERE / "jobs" / "real_work.py", "generate", data], check=True)
        return f"file://{data}"

    def real_work(self, *jobs):
        """The results of real_work.py without the library, by job; computed once."""
        key = ("real_work.py", jobs)
        if key not in self.references:
            name = f"reference-real-work-{len(self.references)}"
            out = self.scratch / name / "out"
            self.local(name, "real_work.py", [self.input(), f"file://{out}", *jobs])
            self.references[key] = each_result(out)
        return self.references[key]

    def records(self, name, metrics=None):
        """What the library wrote in a test."""
        return Records(ANALYZER, self.scratch / name / "records", metrics)

    def event_log(self, name):
        """What Spark wrote about a test's job."""
        return EventLog(self.scratch / name / "events")


def run_to_end(command, environment, log_path):
    """Runs a command; it must succeed."""
    with open(log_path, "wb") as log:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            timeout=SUBMIT_SECONDS,
            check=False,
            preexec_fn=standalone.die_with_parent,
        )
    assert done.returncode == 0, f"ended with {done.returncode}: {tail(log_path.parent)}"


def tail(directory):
    """The end of a test's submit.log."""
    return (directory / "submit.log").read_text(encoding="utf-8", errors="replace")[-1500:]


def results(directory):
    """The lines that a job wrote, sorted."""
    lines = [line for part in directory.glob("part-*") for line in part.read_text(encoding="utf-8").splitlines()]
    assert lines, f"no results in {directory}"
    return sorted(lines)


def each_result(directory):
    """The bytes that each job of real_work.py wrote, its parts in order: where one ends and the next begins is a
    matter of Spark's samples."""
    return {job.name: b"".join(part.read_bytes() for part in sorted(job.glob("part-*"))) for job in directory.iterdir()}


def must_equal(found, expected):
    """Fails with the names of the jobs whose results are not the same bytes."""
    wrong = [job for job in expected if found.get(job) != expected[job]]
    assert found.keys() == expected.keys() and not wrong, f"results differ from those without the library: {wrong}"


def must_agree(records, log, **keywords):
    """Fails with the first differences between records and event log."""
    assert log.tasks, "the event log has no tasks"
    found = differences(records, log, **keywords)
    assert not found, f"{len(found)} differences; " + "; ".join(found[:6])


def prepare(version, scratch):
    """Fetches a Spark version; `Skip` if it cannot be had."""
    try:
        names = [f"spark-{version}", "java"]
        for missing in fetch.missing(names):
            fetch.install(missing)
    except fetch.FetchError as error:
        raise Skip(f"Spark {version} is not in the cache and could not be fetched: {error}") from error
    java = fetch.java_home() or fetch.place("java")
    return Spark(version, fetch.place(f"spark-{version}"), java, scratch / version)
