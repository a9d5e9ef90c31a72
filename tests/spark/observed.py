"""What the record files and Spark's event log say about tasks, and whether they say the same."""

import json
import pathlib
import subprocess


# What every task executes some of, where the engine counts.
COUNTED_IN_TASKS = ("instructions", "memory_reads", "memory_writes", "memory_bytes_read", "memory_bytes_written", "barriers")


# Records of threads that a task has started, and of Python workers: what they did adds to a task that has a record of its own.
FURTHER = ("task_thread", "python_worker")


class Record:
    """One group of a record file, with the header of its process."""

    def __init__(self, header, group):
        self.header = header
        self.kind = group["kind"]
        self.tid = group["tid"]
        self.mono_ns = group["mono_ns"]
        self.flags = set(group.get("flags") or [])
        self.values = group.get("values") or {}
        self.details = group


class Records:
    """All record files below a directory, read with `analyzer dump`; `metrics` names the counters to read, else all."""

    def __init__(self, analyzer, directory, metrics=None):
        command = [analyzer, "dump", "--format", "json", *(["--metrics", metrics] if metrics else [])]
        self.headers = []
        self.groups = []
        for path in sorted(pathlib.Path(directory).rglob("*.sar")):
            done = subprocess.run([*command, path], capture_output=True, text=True, check=False)
            # 1 = some bytes were left out: a file of a killed process may end in the middle of a group.
            if done.returncode not in (0, 1):
                raise AssertionError(f"{path}: analyzer dump: {done.returncode}: {done.stderr.strip()}")
            content = json.loads(done.stdout)
            header = content["header"]
            self.headers.append(header)
            self.groups += [Record(header, group) for group in content["groups"]]

    def of(self, kind):
        """The groups of one kind."""
        return [group for group in self.groups if group.kind == kind]


class EventLog:
    """Task ends, executors and the application id from an uncompressed, unrolled event log."""

    def __init__(self, directory):
        (path,) = [path for path in pathlib.Path(directory).iterdir() if not path.name.startswith(".")]
        self.tasks = {}
        self.application_id = None
        self.executors = set()
        for line in path.read_text(encoding="utf-8").splitlines():
            event = json.loads(line)
            if event["Event"] == "SparkListenerApplicationStart":
                self.application_id = event["App ID"]
            elif event["Event"] == "SparkListenerExecutorAdded":
                self.executors.add(event["Executor ID"])
            elif event["Event"] == "SparkListenerTaskEnd":
                self.tasks[event["Task Info"]["Task ID"]] = event


def differences(records, log, may_lack=lambda _: False):
    """Everything in which records and event log differ, as sentences; empty = they agree.

    `may_lack(event)` says whether a task's records may be missing (its executor was killed).
    """
    found = []
    starts, ends = {}, {}
    for kind, into in (("task_start", starts), ("task_end", ends)):
        for record in records.of(kind):
            if record.details["method"] in FURTHER:
                continue
            into.setdefault(record.details["task_id"], []).append(record)
    for task_id in starts.keys() | ends.keys():
        if task_id not in log.tasks:
            found.append(f"TID {task_id} is in the records only")
    for task_id, event in log.tasks.items():
        start, end = starts.get(task_id, []), ends.get(task_id, [])
        if len(start) != 1 or len(end) != 1:
            if not may_lack(event):
                found.append(f"TID {task_id}: {len(start)} starts, {len(end)} ends")
            continue
        found += task_differences(task_id, start[0], end[0], event, log.application_id)
    return found


def task_differences(task_id, start, end, event, application_id):
    """As [`differences`], for one task."""
    info, metrics = event["Task Info"], event.get("Task Metrics") or {}
    executor = info["Executor ID"]
    expected = {
        "stage": event["Stage ID"],
        "stage_attempt": event["Stage Attempt ID"],
        "index": info["Index"],
        "attempt": info["Attempt"],
        "method": "breakpoint",
        # In local mode no command line tells them: Spark is asked.
        "application_id": application_id,
        "executor_id": executor,
    }
    for record in (start, end):
        for key, value in expected.items():
            if record.details.get(key) != value:
                yield f"TID {task_id}: {record.kind} has {key} {record.details.get(key)!r}, not {value!r}"
        if record.header["tracer"] == "engine" and "followed" not in record.flags:
            yield f"TID {task_id}: {record.kind} is flagged {sorted(record.flags)}: the thread is not followed"
        if record.flags & {"late", "closed_by_next", "closed_by_thread_end"}:
            yield f"TID {task_id}: {record.kind} is flagged {sorted(record.flags)}"
    if start.tid != end.tid:
        yield f"TID {task_id}: starts on thread {start.tid}, ends on {end.tid}"
    milliseconds = (end.mono_ns - start.mono_ns) / 1e6
    run_time = metrics.get("Executor Run Time", 0)
    wall = info["Finish Time"] - info["Launch Time"]
    if not run_time - 5 <= milliseconds <= wall + 1000:
        yield f"TID {task_id}: {milliseconds:.0f} ms; Spark: {run_time} ms run, {wall} ms in all"
    grown = {name: value - (start.values.get(name) or 0) for name, value in end.values.items() if value is not None}
    if any(value < 0 for value in grown.values()):
        yield f"TID {task_id}: counters shrink"
    for counter in COUNTED_IN_TASKS if start.header["tracer"] == "engine" else ():
        if not grown.get(counter):
            yield f"TID {task_id}: {counter} did not grow"
    shuffled = metrics.get("Shuffle Write Metrics", {}).get("Shuffle Bytes Written", 0)
    written = grown.get("file_write_bytes", 0)
    if written < shuffled:
        yield f"TID {task_id}: {written} bytes written to files, but Spark wrote {shuffled} of shuffle data"
