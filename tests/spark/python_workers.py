"""What the records say of tasks' work in Python workers, against the event log and the known lengths of loops."""

import json

import stored

METHOD = "python_worker"
LENGTHS = 4


def check(records, log, reuses):
    """Every task has one record of its Python worker, whose counts are those of its loop. Returns what the shortest loop
    takes, what is executed besides in a worker's first task and in later ones, and how many workers there were."""
    tasks, served = tasks_in_workers(records)
    assert sorted(task["task_id"] for task in tasks) == sorted(log.tasks), f"tasks {sorted(task['task_id'] for task in tasks)}"
    # Whether it is the worker's first task -> length -> counts.
    counts = {True: {}, False: {}}
    for task in tasks:
        event = log.tasks[task["task_id"]]
        info = event["Task Info"]
        expected = (event["Stage ID"], info["Attempt"], log.application_id, info["Executor ID"], "returned")
        told = tuple(task[key] for key in ("stage", "attempt", "application_id", "executor_id", "outcome"))
        assert told == expected, f"TID {task['task_id']}: {told}, not {expected}"
        assert task["flags"] == {"followed"}, f"TID {task['task_id']} is flagged {sorted(task['flags'])}"
        length = 1 + info["Index"] % LENGTHS
        counts[task["is_first"]].setdefault(length, []).append(task["instructions"])
    most = max(served.values())
    assert (most > 1) == reuses, f"a worker served {most} tasks"
    assert reuses or len(served) == len(tasks), f"{len(served)} workers served {len(tasks)} tasks"
    least = {length: min(each) for length, each in counts[not reuses].items()}
    assert sorted(least) == list(range(1, LENGTHS + 1)), f"lengths {least}"
    a_loop = (least[LENGTHS] - least[1]) // (LENGTHS - 1)
    besides = {length: count - a_loop * length for length, count in least.items()}
    # Imports differ by some millions of instructions; a loop at the wrong task would be a whole one.
    assert all(abs(count - besides[1]) < a_loop / 4 for count in besides.values()), f"{a_loop} a loop, and besides {besides}"
    # Two of a length differ by what is imported, collected and compiled meanwhile.
    for length, each in counts[False].items():
        assert max(each) - min(each) < a_loop / 4, f"length {length}: {sorted(each)}, a loop takes {a_loop}"
    first = [count - a_loop * length for length, each in counts[True].items() for count in each]
    return a_loop, min(first), min(besides.values()), len(served)


def tasks_in_workers(records):
    """Tasks as their workers' records tell of them; and how many each process has served."""
    starts, tasks, served = {}, [], {}
    for record in records.groups:
        process = record.header["process_id"]
        if record.details.get("method") != METHOD:
            continue
        assert record.header["role"] == METHOD, record.header["role"]
        if record.kind == "task_start":
            assert process not in starts, f"two tasks at once in one worker: {record.details}"
            starts[process] = record
            continue
        start = starts.pop(process)
        assert start.details["task_id"] == record.details["task_id"] and start.tid == record.tid, record.details
        count = record.values["instructions"] - start.values["instructions"]
        is_first = process not in served
        tasks.append({**record.details, "flags": start.flags | record.flags, "instructions": count, "is_first": is_first})
        served[process] = served.get(process, 0) + 1
    assert not starts, f"tasks that did not end: {[start.details for start in starts.values()]}"
    return tasks, served


def reconcile(analyzer, scratch, records, log, workers):
    """The report over records and event log: tasks and what lies outside are the processes' totals, and the stage has
    what its tasks did on the executors' threads and in their workers."""
    store = scratch / "store"
    arguments = ["ingest", "--quiet", scratch / "records", "--event-log", scratch / "events", "--store", store]
    stored.analyzer(analyzer, *arguments)
    printed, _ = stored.analyzer(analyzer, "report", "--by", "stage", "--format", "json", "--store", store)
    report = json.loads(printed)
    name = "instructions"
    rows = report["rows"]
    assert sum(row[name] for row in rows) == report["process_totals"][name], "rows do not make up the processes' totals"
    in_tasks = [row for row in rows if row["part"] == "tasks"]
    attempts = {(row["stage"], row["stage_attempt"]) for row in in_tasks}
    assert attempts == {(event["Stage ID"], event["Stage Attempt ID"]) for event in log.tasks.values()}, f"stages {attempts}"
    assert sum(row["tasks"] for row in in_tasks) == len(log.tasks), "a worker's records are no tasks of their own"
    of_python = sum(task[name] for task in tasks_in_workers(records)[0])
    assert sum(row["python_instructions"] or 0 for row in in_tasks) == of_python > 0, f"python_instructions, not {of_python}"
    starts = {record.details["task_id"]: record for record in records.of("task_start") if record.details["method"] == "breakpoint"}
    ends = [record for record in records.of("task_end") if record.details["method"] == "breakpoint"]
    of_threads = sum(end.values[name] - starts[end.details["task_id"]].values[name] for end in ends)
    assert sum(row[name] for row in in_tasks) == of_threads + of_python, f"{of_threads} on threads, {of_python} in workers"
    assert any(f"{len(log.tasks)} records of Python workers" in note for note in report["notes"]), report["notes"]
    return f"{of_python / (of_threads + of_python):.0%} of the tasks' instructions in {workers} workers"
