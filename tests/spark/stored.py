"""Spark's history server as a source of event logs, and Spark as a reader of the Parquet store."""

import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

START_SECONDS = 90
JOBS = pathlib.Path(__file__).resolve().parent / "jobs"


def analyzer(program, *arguments, code=0):
    """Runs the analyzer, which must end with this code; standard output and error."""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == code, f"analyzer {arguments[0]}: {done.returncode}, not {code}: {done.stderr.strip()}"
    return done.stdout, done.stderr


class HistoryServer:
    """A real history server over a folder of event logs; stopped on leaving."""

    def __init__(self, spark, events, log):
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        options = {
            "spark.history.fs.logDirectory": f"file://{events}",
            "spark.history.ui.port": self.port,
            "spark.history.fs.update.interval": "1s",
        }
        self.environment = {
            **os.environ,
            "JAVA_HOME": str(spark.java),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_HISTORY_OPTS": " ".join(f"-D{key}={value}" for key, value in options.items()),
        }
        self.command = [spark.home / "bin" / "spark-class", "org.apache.spark.deploy.history.HistoryServer"]
        self.log = log
        self.process = None

    def address(self, application):
        """What --event-log takes."""
        return f"http://127.0.0.1:{self.port}/{application}"

    def knows(self, application):
        """Whether it has read the application's log."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/applications", timeout=10) as answer:
                return any(one["id"] == application for one in json.load(answer))
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def __enter__(self):
        with open(self.log, "wb") as log:
            # spark-class becomes the JVM by exec.
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        return self

    def wait_for(self, application):
        """Waits until it has read the application's log."""
        deadline = time.monotonic() + START_SECONDS
        while not self.knows(application):
            end = pathlib.Path(self.log).read_text(encoding="utf-8", errors="replace")[-1500:]
            assert self.process.poll() is None and time.monotonic() < deadline, f"no history server: {end}"
            time.sleep(0.2)

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def report(program, store, *arguments):
    """A report as JSON."""
    return json.loads(analyzer(program, "report", "--store", store, "--format", "json", *arguments)[0])


def check_shuffle_directories(by_directory, log):
    """Spark keeps shuffle data in the numbered folders of its block manager: as many bytes as it says were written
    there, and all files are somewhere."""
    places = [row for row in by_directory["rows"] if "/blockmgr-" in (row["directory"] or "")]
    written = sum(row["file_write_bytes"] for row in places)
    writes = [(task.get("Task Metrics") or {}).get("Shuffle Write Metrics") or {} for task in log.tasks.values()]
    shuffled = sum(one.get("Shuffle Bytes Written", 0) for one in writes)
    assert written >= shuffled > 0, f"{written} bytes written in {len(places)} folders, {shuffled} of shuffle data"
    for figure in ("file_read_bytes", "file_write_bytes", "file_open_calls"):
        total = by_directory["process_totals"][figure]
        rows = sum(row[figure] for row in by_directory["rows"])
        assert rows == total, f"{figure}: {rows} in directories and beside them, {total} of the process"
    return shuffled


def history_and_readers(spark, program, name, run):
    """`run` makes records and an event log of a job in the test's folder; both ways into the store give the same
    report, and Spark reads the same sums from the store's tables."""
    folder = spark.scratch / name
    run()
    log = spark.event_log(name)
    application = log.application_id
    by_file, by_server = folder / "by-file", folder / "by-server"
    records, events = folder / "records", folder / "events"
    analyzer(program, "ingest", "--quiet", "--store", by_file, "--event-log", events, records)
    with HistoryServer(spark, events, folder / "history.log") as server:
        server.wait_for(application)
        address = server.address(application)
        analyzer(program, "ingest", "--quiet", "--store", by_server, "--event-log", address, records)
        _, error = analyzer(
            program, "ingest", "--store", by_server, "--event-log", server.address("app-none"), code=3
        )
        assert "404" in error and "app-none" in error, error
    _, error = analyzer(program, "ingest", "--store", by_server, "--event-log", address, code=3)
    assert address in error and "refused" in error.lower(), error
    whole = report(program, by_file, "--by", "task")
    assert whole == report(program, by_server, "--by", "task"), "the history server's log gives another report"
    shuffled = check_shuffle_directories(report(program, by_file, "--by", "directory"), log)
    out = folder / "read.json"
    command = [spark.home / "bin" / "spark-submit", "--master", "local[2]", JOBS / "read_store.py", by_file, out]
    environment = {**os.environ, "JAVA_HOME": str(spark.java), "SPARK_LOCAL_IP": "127.0.0.1"}
    with open(folder / "read.log", "wb") as log:
        subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=300, check=True)
    read = json.loads(out.read_text(encoding="utf-8"))
    tasks = [row for row in whole["rows"] if row["part"] == "tasks" and row["recorded_tasks"]]
    assert read["tasks"] == len(tasks), f"Spark reads {read['tasks']} tasks, the report has {len(tasks)}"
    for figure in ("instructions", "file_read_bytes"):
        ours = sum(row[figure] or 0 for row in tasks)
        assert read[figure] == ours, f"{figure}: Spark reads {read[figure]}, the report has {ours}"
    return f"{len(tasks)} tasks, {shuffled} bytes of shuffle in its directories"
