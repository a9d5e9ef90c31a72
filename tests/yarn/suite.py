"""The library on real YARN and HDFS: Hadoop's own daemons on two nodes of this machine, Spark's shuffle service in them.

The job is an average rating per genre, as RDDs in PySpark: ratings in five blocks of HDFS, movies in one block that is
read as two splits. Every task in Spark's event log must have its records, with the right identity and counts, and
nothing else; the averages must be those that this program computes itself. Prints PASS, FAIL or SKIP per test; exit code
1 if one failed. Three minutes on two idle cores, with --long some twenty more. SKIP where Maven Central or PyPI cannot
be reached and nothing is cached, or where no namespaces are to be had.
"""

import argparse
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "demo"), str(HERE.parent / "spark"), str(HERE)]

import cluster as standalone  # noqa: E402
import fetch  # noqa: E402
import jars  # noqa: E402
import own_network  # noqa: E402
import reports  # noqa: E402
from hadoop import FILE_SYSTEM, NODES, Hadoop, HadoopError  # noqa: E402
from spark_runs import ANALYZER, SHIM, VERSIONS, Skip, must_agree, prepare  # noqa: E402
from yarn_runs import STAGES, Yarn, executors, localities, tasks_per_stage, wait_for  # noqa: E402

EXECUTORS = {"executor", "python_worker"}
WITH_DRIVER = EXECUTORS | {"driver"}
# The ratings of most tests: 5.6 MB, and blocks may not be smaller than 1 MiB. Those of the lecture's job: 100 MB.
FEW, MANY = 400_000, 7_200_000
THREE = ("--num-executors", "3")


def client_mode(yarn):
    """The driver here, three executors on two nodes, named to by spark.executorEnv; nothing else is counted."""
    name, folder = "client", yarn.ratings(FEW)
    yarn.run(name, "client", yarn.switched_on(name, "spark.executorEnv"), folder, *THREE)
    _, log = yarn.check(name, folder, EXECUTORS)
    assert tasks_per_stage(log) == STAGES, f"tasks per stage {tasks_per_stage(log)}"
    hosts = sorted(life.host for life in executors(yarn.event_path(name)).values())
    assert len(hosts) == 3 and len(set(hosts)) == 2, f"executors on {hosts}: two on one node, one on the other"
    assert localities(log).get("NODE_LOCAL"), f"localities {localities(log)}"
    said = reports.check(yarn, name, log)
    check_containers_gone(yarn, log)
    return f"{len(log.tasks)} tasks on {hosts}, {localities(log)}; {said}"


def cluster_mode_by_admin_env(yarn):
    """The driver in a container, the library named in yarn-site.xml of the NodeManagers: no job says a word of it."""
    name, folder = "admin-env", yarn.ratings(FEW)
    yarn.hadoop.restart_yarn(yarn.variables(name))
    yarn.run(name, "cluster", {}, folder, "--num-executors", "2")
    records, log = yarn.check(name, folder, WITH_DRIVER)
    assert tasks_per_stage(log) == STAGES, f"tasks per stage {tasks_per_stage(log)}"
    check_driver(records)
    said = reports.check(yarn, name, log)
    aggregated = check_aggregated_logs(yarn, log, containers=3)
    return f"{len(log.tasks)} tasks; {said}; {aggregated} bytes of logs in HDFS"


def admin_env_and_the_jobs_own(yarn):
    """Where a job names a library of its own and yarn-site.xml names ours, ours is there, and what becomes of the other
    is known."""
    name, folder = "both", yarn.ratings(FEW)
    yarn.hadoop.restart_yarn(yarn.variables(name))
    job = {"spark.executorEnv.LD_PRELOAD": "/nonexistent/other.so"}
    yarn.run(name, "client", job, folder, "--num-executors", "1")
    records, log = yarn.check(name, folder, EXECUTORS)
    assert records.headers
    text = yarn.aggregated_logs(log.application_id)
    complaints = text.count("/nonexistent/other.so")
    return f"{len(log.tasks)} tasks; {complaints} complaints of the loader about the other library"


def cluster_mode(yarn):
    """The driver in a container, named to by spark.executorEnv and spark.yarn.appMasterEnv."""
    name, folder = "cluster", yarn.ratings(FEW)
    settings = yarn.switched_on(name, "spark.executorEnv", "spark.yarn.appMasterEnv")
    yarn.run(name, "cluster", settings, folder, *THREE)
    records, log = yarn.check(name, folder, WITH_DRIVER)
    assert tasks_per_stage(log) == STAGES, f"tasks per stage {tasks_per_stage(log)}"
    check_driver(records)
    said = reports.check(yarn, name, log)
    check_containers_gone(yarn, log)
    return f"{len(log.tasks)} tasks; {said}"


def without_the_library(yarn):
    """The same job on the same cluster without the library gives the same lines: what `check_result` expects is right."""
    name, folder = "without", yarn.ratings(FEW)
    yarn.run(name, "client", {}, folder, *THREE)
    yarn.check_result(name, folder)
    assert not list(yarn.records_dir(name).iterdir()), "records of a run without the library"
    return f"{len(yarn.event_log(name).tasks)} tasks"


def allocation_comes_and_goes(yarn):
    """Dynamic allocation with small executors: two on a node, asked for, removed when idle, asked for again."""
    name, folder = "dynamic", yarn.ratings(FEW)
    settings = yarn.switched_on(name, "spark.executorEnv") | {
        "spark.shuffle.service.enabled": "true",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.initialExecutors": 1,
        "spark.dynamicAllocation.minExecutors": 0,
        "spark.dynamicAllocation.maxExecutors": 4,
        "spark.dynamicAllocation.schedulerBacklogTimeout": "1s",
        "spark.dynamicAllocation.executorIdleTimeout": "2s",
        "spark.dynamicAllocation.cachedExecutorIdleTimeout": "3s",
    }
    yarn.run(name, "cluster", settings, folder, passes=1)
    records, log = yarn.check(name, folder, EXECUTORS)
    assert tasks_per_stage(log) == STAGES, f"tasks per stage {tasks_per_stage(log)}"
    lives = executors(yarn.event_path(name))
    removed = [life for life in lives.values() if life.removed_ms]
    assert removed, f"no executor was removed of {len(lives)}"
    again = [life for life in lives.values() if life.added_ms > min(one.removed_ms for one in removed)]
    assert again, f"no executor came after one of {len(lives)} was removed"
    most, node = most_at_once(lives)
    assert most >= 2, f"at most {most} executors on a node at once"
    said = reports.check(yarn, name, log)
    return f"{len(log.tasks)} tasks on {len(lives)} executors, {len(removed)} removed, {most} at once on {node}; {said}"


def racks(yarn):
    """One executor, data on both nodes: what the other node has is RACK_LOCAL where a script says that both are in one rack,
    ANY where each is in its own; what was kept in memory is PROCESS_LOCAL."""
    folder, found = yarn.ratings(FEW), {}
    for one_rack, expected in ((True, "RACK_LOCAL"), (False, "ANY")):
        name = "one-rack" if one_rack else "two-racks"
        yarn.hadoop.set_racks(one_rack)
        yarn.hadoop.restart_yarn()
        settings = yarn.switched_on(name, "spark.executorEnv") | {"spark.locality.wait": "1s"}
        yarn.run(name, "client", settings, folder, "--num-executors", "1", passes=2)
        _, log = yarn.check(name, folder, EXECUTORS)
        found[name] = localities(log)
        missing = {"PROCESS_LOCAL", "NODE_LOCAL", expected} - found[name].keys()
        assert not missing, f"{name}: no task is {missing}: {found[name]}"
        reports.check(yarn, name, log)
    return str(found)


def second_attempt(yarn):
    """The ApplicationMaster is killed; YARN starts the application again. Records and reports tell both attempts apart."""
    name, folder = "attempts", yarn.ratings(FEW)
    settings = yarn.switched_on(name, "spark.executorEnv", "spark.yarn.appMasterEnv") | {"spark.yarn.maxAppAttempts": 2}
    job = yarn.average_rating(name, "cluster", settings, folder, *THREE, passes=1)

    def counted():
        """The first attempt's ApplicationMaster, once a stage of it has ended."""
        logs = list((yarn.scratch / name / "events").glob("*_1.inprogress"))
        if not logs or "SparkListenerStageCompleted" not in logs[0].read_text(encoding="utf-8", errors="replace"):
            return None
        return [pid for pid, arguments in yarn.hadoop.containers() if any("ApplicationMaster" in one for one in arguments)]

    # The library's helper process, a child, has the same arguments.
    os.kill(wait_for(counted, job, name)[0], signal.SIGKILL)
    yarn.finish(job, name)
    return reports.check_attempts(yarn, name, folder)


def memory_is_enforced(yarn):
    """With the overhead that is printed, a job that needs no more than without the library is left alone. A container that takes
    more memory than it may is killed by YARN; what it had counted is there, and its task is done again."""
    yarn.hadoop.restart_yarn(enforces_memory=True)
    name, folder = "modest", yarn.ratings(FEW)
    yarn.run(name, "client", yarn.switched_on(name, "spark.executorEnv"), folder, "--num-executors", "2")
    killed = "beyond the 'PHYSICAL' memory limit"
    submit_log = (yarn.scratch / name / "submit.log").read_text(encoding="utf-8")
    assert killed not in submit_log, next(line for line in submit_log.splitlines() if killed in line)[:600]
    yarn.check(name, folder, EXECUTORS)
    name = "greedy"
    settings = yarn.switched_on(name, "spark.executorEnv")
    job = yarn.submit(name, "client", settings, HERE / "jobs" / "greedy.py", [f"/out/{name}"], "--num-executors", "2")
    yarn.finish(job, name)
    records, log = yarn.records(name), yarn.event_log(name)
    failed = [event for event in log.tasks.values() if event["Task Info"]["Failed"]]
    reasons = {event["Task End Reason"]["Reason"] for event in failed}
    assert failed and reasons == {"ExecutorLostFailure"}, f"{len(failed)} failed tasks, {reasons}"
    lost = {event["Task Info"]["Executor ID"] for event in failed}
    # The kill comes at any moment: of a killed process' last second there may be nothing.
    must_agree(records, log, may_lack=lambda event: event["Task Info"]["Executor ID"] in lost)
    begun = {start.details["task_id"] for start in records.of("task_start")}
    assert any(event["Task Info"]["Task ID"] in begun for event in failed), "no record of the task that took too much"
    submit_log = (yarn.scratch / name / "submit.log").read_text(encoding="utf-8")
    assert killed in submit_log or "physical memory" in submit_log, "YARN's reason is another"
    lines = yarn.hadoop.files("-cat", f"/out/{name}/part-*").splitlines()
    expected = [f"{number},{sum(range(number, 400_000))}" for number in range(4)]
    assert sorted(lines) == expected, f"results {lines}"
    return f"{len(log.tasks)} tasks, {len(failed)} lost with their container"


def report_by_spark(yarn):
    """A store in this HDFS, read and summed up by Spark on this YARN: the figures of the embedded report, to the last digit."""
    name, folder = "client", yarn.ratings(FEW)
    if not (yarn.scratch / name / "store").exists():
        client_mode(yarn)
    store = yarn.scratch / name / "store"
    yarn.hadoop.files("-mkdir", "-p", "/stores")
    yarn.hadoop.files("-put", "-f", store, "/stores")
    return reports.check_engines(yarn, store, f"{FILE_SYSTEM}/stores/store")


def lectures_job(yarn):
    """The job at its size: 100 MB of ratings in five blocks, dynamic allocation, cluster mode."""
    name, folder = "lecture", yarn.ratings(MANY)
    settings = yarn.switched_on(name, "spark.executorEnv", "spark.yarn.appMasterEnv") | {
        "spark.shuffle.service.enabled": "true",
        "spark.dynamicAllocation.enabled": "true",
        "spark.dynamicAllocation.maxExecutors": 4,
        "spark.dynamicAllocation.executorIdleTimeout": "5s",
        # Python sorts ratings on disk past this much; what is printed for memoryOverhead must hold it.
        "spark.python.worker.memory": "128m",
    }
    yarn.run(name, "cluster", settings, folder)
    records, log = yarn.check(name, folder, WITH_DRIVER)
    assert tasks_per_stage(log) == STAGES, f"tasks per stage {tasks_per_stage(log)}"
    lives = executors(yarn.event_path(name))
    removed = [life for life in lives.values() if life.removed_ms]
    said = reports.check(yarn, name, log)
    return f"{len(log.tasks)} tasks on {len(lives)} executors, {len(removed)} removed, {localities(log)}; {said}"


# -- what several tests look at ---------------------------------------------------------------------


def check_driver(records):
    """The ApplicationMaster with the driver in it is a driver and no executor, and runs no tasks."""
    drivers = [header for header in records.headers if header["role"] == "driver"]
    assert len(drivers) == 1, f"{len(drivers)} drivers"
    (driver,) = drivers
    assert any("ApplicationMaster" in part for part in driver["command_line"]), driver["command_line"][-8:]
    assert driver["executor_id"] in (None, "driver"), f"the driver's executor id is {driver['executor_id']}"
    tasks = [one for one in records.of("task_start") if one.header["process_id"] == driver["process_id"]]
    assert not tasks, f"{len(tasks)} tasks in the driver"


def check_containers_gone(yarn, log):
    """YARN deletes a finished application's folders; the records are elsewhere."""
    left = list(yarn.hadoop.work.glob(f"*/local/usercache/*/appcache/{log.application_id}"))
    deadline = time.monotonic() + 60
    while left and time.monotonic() < deadline:
        time.sleep(0.5)
        left = [folder for folder in left if folder.exists()]
    assert not left, f"YARN has left {left}"


def check_aggregated_logs(yarn, log, containers):
    """YARN has brought the containers' logs together, and nothing in them speaks of the library; their size."""
    text = yarn.aggregated_logs(log.application_id)
    told = {line for line in text.splitlines() if line.startswith("Container: container_")}
    assert len(told) >= containers, f"logs of {len(told)} containers, not {containers}"
    complaints = [line for line in text.splitlines() if "ld.so" in line or line.startswith("sparkanalyzer")]
    assert not complaints, f"the containers' logs complain: {complaints[:3]}"
    return len(text)


def most_at_once(lives):
    """The most executors that one node had at once, and which node."""
    best = (0, None)
    for begin in lives.values():
        same = [
            one
            for one in lives.values()
            if one.host == begin.host and one.added_ms <= begin.added_ms < (one.removed_ms or float("inf"))
        ]
        best = max(best, (len(same), begin.host), key=lambda pair: pair[0])
    return best


SHORT = (client_mode, cluster_mode_by_admin_env)
LONG = (
    client_mode,
    report_by_spark,
    cluster_mode,
    without_the_library,
    allocation_comes_and_goes,
    second_attempt,
    memory_is_enforced,
    racks,
    cluster_mode_by_admin_env,
    admin_env_and_the_jobs_own,
    lectures_job,
)
# Once is enough: what they show does not depend on Spark's version.
ONLY_NEWEST = (without_the_library, memory_is_enforced, admin_env_and_the_jobs_own, lectures_job)


# -- runner ----------------------------------------------------------------------------------------


def run(test, version, yarn):
    """Runs one test and prints its line; whether it did not fail."""
    name, begin = f"yarn {version}: {test.__name__}", time.monotonic()
    try:
        remark = test(yarn)
    except (AssertionError, HadoopError, subprocess.SubprocessError) as error:
        print(f"FAIL {name} ({time.monotonic() - begin:.0f} s)\n  {error}", flush=True)
        yarn.end_jobs()
        return False
    except Exception:  # pylint: disable=broad-except
        print(f"FAIL {name}\n{traceback.format_exc()}", flush=True)
        yarn.end_jobs()
        return False
    print(f"PASS {name} ({time.monotonic() - begin:.0f} s; {remark})", flush=True)
    return True


def of_version(version, tests, scratch):
    """Runs tests with one Spark version on a Hadoop of their own; whether none failed."""
    spark = prepare(version, scratch)
    work = scratch / version
    work.mkdir(parents=True, exist_ok=True)
    good = True
    with Hadoop(jars.place("hadoop-3.4.2"), jars.place("shuffle-3.5.5"), spark.java, work / "hadoop") as hadoop:
        hadoop.start()
        yarn = Yarn(spark, hadoop, work)
        for test in tests:
            good = run(test, version, yarn) and good
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="run the tests whose name, with the version, contains one of these (A,B)")
    parser.add_argument("--long", action="store_true", help="run all tests, with both versions of Spark")
    parser.add_argument("--keep", action="store_true", help="keep the scratch directory and say where it is")
    options = parser.parse_args()
    for needed in (ANALYZER, SHIM):
        if not needed.exists():
            print(f"FAIL yarn: {needed} is missing; ./run build makes it")
            return 1
    standalone.stop_on_signals()
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="sparkanalyzer-yarn-"))
    # Executors look at who may write to the folders above their records.
    scratch.chmod(0o755)
    good, versions = True, VERSIONS if options.long else VERSIONS[:1]
    try:
        # All that comes from outside comes before the network is left.
        for version in versions:
            prepare(version, scratch)
        for name in jars.SETS:
            jars.install(name)
        own_network.enter(NODES, scratch)
        for version in versions:
            tests = [test for test in (LONG if options.long else SHORT) if version == VERSIONS[0] or test not in ONLY_NEWEST]
            parts = options.only.split(",")
            tests = [test for test in tests if any(part in f"yarn {version}: {test.__name__}" for part in parts)]
            if tests:
                good = of_version(version, tests, scratch) and good
    except (Skip, fetch.FetchError, own_network.Refused) as reason:
        print(f"SKIP yarn: {reason}", flush=True)
    except HadoopError as error:
        print(f"FAIL yarn: {error}", flush=True)
        good = False
    finally:
        if options.keep:
            print(f"kept: {scratch}", file=sys.stderr)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
