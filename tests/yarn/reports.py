"""What the analyzer makes of a job on YARN, compared with Spark's event log."""

import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent / "spark")]

from observed import EventLog, differences  # noqa: E402
from spark_runs import ANALYZER, must_agree  # noqa: E402
from stored import analyzer, report  # noqa: E402
from yarn_runs import STAGES, executors, localities, tasks_per_stage  # noqa: E402

ENGINE_SECONDS = 400
# What `report --engine spark` must say as the embedded engine does.
COMPARED = (("--by", "stage"), ("--by", "node,executor"), ("--by", "task"))


def ingest(yarn, name):
    """A store of a test's records and event logs."""
    folder = yarn.scratch / name
    analyzer(ANALYZER, "ingest", "--quiet", "--store", folder / "store", "--event-log", folder / "events", folder / "records")
    return folder / "store"


def check(yarn, name, log):
    """A report has the executors' life, localities and shuffles that Spark's log has, beside counts of all tasks."""
    store = ingest(yarn, name)
    by_executor = report(ANALYZER, store, "--by", "executor")
    lives = executors(yarn.event_path(name))
    told = {one["executor_id"]: one for one in by_executor["executors"] if one["executor_id"] != "driver"}
    assert told.keys() == lives.keys(), f"executors {sorted(told)}, Spark has {sorted(lives)}"
    for number, life in lives.items():
        found = tuple(told[number][key] for key in ("host", "cores", "added_ms", "removed_ms"))
        assert found == (life.host, life.cores, life.added_ms, life.removed_ms), f"executor {number}: {found}, {life}"
    rows = [row for row in by_executor["rows"] if row["part"] == "tasks"]
    for row in rows:
        tasks = row["recorded_tasks"]
        assert tasks == row["tasks"], f"executor {row['executor_id']}: {tasks} of {row['tasks']} tasks are counted"
        assert row["instructions"] > 0, f"executor {row['executor_id']}: no instructions"
    for level, count in localities(log).items():
        figure = f"spark_{level.lower()}_tasks"
        found = sum(row[figure] for row in rows)
        assert found == count, f"{figure}: {found}, Spark has {count}"
    metrics = [event.get("Task Metrics") or {} for event in log.tasks.values()]
    read = [one.get("Shuffle Read Metrics") or {} for one in metrics]
    expected = {
        "spark_shuffle_write_bytes": sum((one.get("Shuffle Write Metrics") or {}).get("Shuffle Bytes Written", 0) for one in metrics),
        "spark_shuffle_read_bytes": sum(one.get("Remote Bytes Read", 0) + one.get("Local Bytes Read", 0) for one in read),
        "spark_shuffle_read_remote_bytes": sum(one.get("Remote Bytes Read", 0) for one in read),
    }
    for figure, bytes_ in expected.items():
        found = sum(row[figure] for row in rows)
        assert found == bytes_, f"{figure}: {found}, Spark has {bytes_}"
    assert expected["spark_shuffle_write_bytes"] > 0
    page = yarn.scratch / name / "report.html"
    analyzer(ANALYZER, "report", "--store", store, "--format", "html", "-o", page)
    assert page.stat().st_size > 10_000, "the page is empty"
    instructions = sum(row["instructions"] for row in rows)
    remote = expected["spark_shuffle_read_remote_bytes"]
    return f"{instructions:.4g} instructions, {expected['spark_shuffle_write_bytes']} bytes of shuffle, {remote} of them read from afar"


class Attempt:
    """The records of one attempt of an application."""

    def __init__(self, records, attempt):
        self.headers = [header for header in records.headers if header["application_attempt"] == attempt]
        self.groups = [group for group in records.groups if group.header["application_attempt"] == attempt]

    def of(self, kind):
        """As `Records.of`."""
        return [group for group in self.groups if group.kind == kind]


def check_attempts(yarn, name, folder):
    """Both attempts' tasks have records that say which attempt they are of; a report has each as an application."""
    events, logs = yarn.scratch / name / "events", {}
    for path in sorted(events.iterdir()):
        number = path.name.removesuffix(".inprogress").rsplit("_", 1)[1]
        alone = yarn.scratch / name / f"events-{number}"
        alone.mkdir()
        shutil.copy(path, alone)
        logs[number] = EventLog(alone)
    assert sorted(logs) == ["1", "2"], f"event logs of the attempts {sorted(logs)}"
    records = yarn.records(name)
    attempts = {number: Attempt(records, number) for number in logs}
    assert sum(len(one.headers) for one in attempts.values()) == len(records.headers), "records of a third attempt"
    must_agree(attempts["2"], logs["2"])
    # The killed driver did not log all that its executors had done.
    for difference in differences(attempts["1"], logs["1"]):
        assert difference.endswith("in the records only"), difference
    assert tasks_per_stage(logs["2"]) == STAGES, f"tasks per stage {tasks_per_stage(logs['2'])}"
    yarn.check_result(name, folder)
    for number, attempt in attempts.items():
        drivers = [header for header in attempt.headers if header["role"] == "driver"]
        assert len(drivers) == 1, f"attempt {number}: {len(drivers)} drivers"
    store, application = ingest(yarn, name), logs["2"].application_id
    said = []
    for number, log in logs.items():
        rows = report(ANALYZER, store, "--app", f"{application}/{number}", "--by", "executor")["rows"]
        rows = [row for row in rows if row["part"] == "tasks"]
        counted = sum(row["recorded_tasks"] for row in rows)
        began = {start.details["task_id"] for start in attempts[number].of("task_start")}
        assert counted == len(began | log.tasks.keys()), f"attempt {number}: {counted} tasks in the report, {len(began)} began"
        for row in rows:
            assert row["application_id"] == f"{application}/{number}", row["application_id"]
        said.append(f"{counted} tasks in attempt {number}")
    return ", ".join(said)


def check_engines(yarn, store, address):
    """The embedded report of a store and the one by Spark on YARN are the same text."""
    environment = {**yarn.environment(), "SPARK_HOME": str(yarn.spark.home)}
    settings = {"spark.executor.memory": "512m", "spark.executor.instances": 1, "spark.driver.host": "node-1"}
    conf = [part for key, value in settings.items() for part in ("--spark-conf", f"{key}={value}")]
    size = 0
    for by in COMPARED:
        command = [ANALYZER, "report", "--store", address, "--format", "json", *by, "--engine", "spark", "--master", "yarn", *conf]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=ENGINE_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, f"{by}: {done.returncode}: {done.stderr[-1500:]}"
        local = analyzer(ANALYZER, "report", "--store", store, "--format", "json", *by)[0]
        assert len(local) > 1000 and done.stdout == local, f"{by}: Spark on YARN says something else: {difference(done.stdout, local)}"
        size += len(local)
    return f"{len(COMPARED)} reports, {size} bytes alike"


def difference(one, other):
    """The first lines in which two texts differ."""
    pairs = zip(one.split(","), other.split(","))
    return next((f"{left} and {right}" for left, right in pairs if left != right), f"{len(one)} and {len(other)} bytes")
