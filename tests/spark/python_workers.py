"""What the records say of tasks' work in Python workers, against the event log and the known lengths of loops."""

import statistics

METHOD = "unknown"
LENGTHS = 4


def check(records, log, reuses):
    """Every task has one record of its Python worker, whose counts are those of its loop; what a worker did is what
    its tasks did and the rest. Returns the counts of a loop's shortest length, and how many workers there were."""
    tasks, served = tasks_in_workers(records)
    assert sorted(task["task_id"] for task in tasks) == sorted(log.tasks), f"tasks {sorted(task['task_id'] for task in tasks)}"
    by_length = {}
    for task in tasks:
        event = log.tasks[task["task_id"]]
        info = event["Task Info"]
        expected = (event["Stage ID"], info["Attempt"], log.application_id, info["Executor ID"], "returned")
        told = tuple(task[key] for key in ("stage", "attempt", "application_id", "executor_id", "outcome"))
        assert told == expected, f"TID {task['task_id']}: {told}, not {expected}"
        assert task["flags"] == {"followed"}, f"TID {task['task_id']} is flagged {sorted(task['flags'])}"
        by_length.setdefault(1 + info["Index"] % LENGTHS, []).append(task["instructions"])
    least = {length: min(counts) for length, counts in by_length.items()}
    steps = [least[length + 1] - least[length] for length in range(1, LENGTHS)]
    middle = statistics.median(steps)
    assert all(abs(step - middle) < middle / 100 for step in steps), f"the least counts of each length: {least}"
    # What is no loop: unpickling, results, garbage, and in a worker's first task what is imported.
    for length, counts in by_length.items():
        assert max(counts) < least[1] + middle * (length - 1) + middle * 2, f"length {length}: {sorted(counts)}, a loop takes {middle}"
    most = max(served.values())
    assert (most > 1) == reuses, f"a worker served {most} tasks"
    return int(middle), len(served)


def tasks_in_workers(records):
    """Tasks as their workers' records tell of them; and how many each process has served."""
    starts, tasks, served = {}, [], {}
    for record in records.groups:
        process = record.header["process_id"]
        if record.details.get("method") != METHOD:
            continue
        assert record.header["role"] == "python_worker", record.header["role"]
        if record.kind == "task_start":
            assert process not in starts, f"two tasks at once in one worker: {record.details}"
            starts[process] = record
            continue
        start = starts.pop(process)
        assert start.details["task_id"] == record.details["task_id"] and start.tid == record.tid, record.details
        count = record.values["instructions"] - start.values["instructions"]
        tasks.append({**record.details, "flags": start.flags | record.flags, "instructions": count})
        served[process] = served.get(process, 0) + 1
    assert not starts, f"tasks that did not end: {[start.details for start in starts.values()]}"
    return tasks, served
