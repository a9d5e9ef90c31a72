"""Jobs on YARN as the tests run them: how they are submitted, how the library is switched on, what must come out."""

import json
import pathlib
import subprocess
import sys
import time
import typing

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "demo"), str(HERE.parent / "spark"), str(HERE / "jobs")]

import cluster as standalone  # noqa: E402
import genres  # noqa: E402
import ratings as made_up  # noqa: E402
from observed import EventLog, Records  # noqa: E402
from spark_runs import ANALYZER, SHIM, must_agree, tail  # noqa: E402
from hadoop import MASTER, NODES  # noqa: E402

SUBMIT_SECONDS = 900
LOGS_SECONDS = 60
PUT_TRIES = 6
CHECKSUM_BYTES = 512  # a block is so many of them
BLOCKS = 5
EXECUTOR_MEMORY = "512m"
# In the first stage five blocks of ratings and two halves of the movies are read, in the second they are joined.
STAGES = [7, 5, 1]


def printed_overhead():
    """spark.executor.memoryOverhead as `analyzer spark-conf` prints it."""
    command = [ANALYZER, "spark-conf", "--yarn", "--executor-memory", EXECUTOR_MEMORY]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (line,) = [line for line in text.splitlines() if line.startswith("spark.executor.memoryOverhead")]
    return line.split()[1]


class Yarn:
    """One Spark version on a Hadoop that runs, with ratings and movies in HDFS."""

    def __init__(self, spark, hadoop, scratch):
        self.spark, self.hadoop, self.scratch = spark, hadoop, pathlib.Path(scratch)
        self.overhead = printed_overhead()
        self.expected = {}
        self.jobs = []

    # -- input ---------------------------------------------------------------------------------

    def ratings(self, count):
        """Generates ratings and movies, once, and lays the ratings into five blocks on both nodes; their folder in HDFS."""
        folder, local = f"/ratings-{count}", self.scratch / f"ratings-{count}"
        if folder in self.expected:
            return folder
        made_up.write(local, count)
        size = (local / "ratings.csv").stat().st_size
        block = -(-size // (BLOCKS * CHECKSUM_BYTES)) * CHECKSUM_BYTES
        self.hadoop.files("-mkdir", "-p", folder)
        for _ in range(PUT_TRIES):
            # Where a block goes is chance.
            self.hadoop.files("-D", f"dfs.blocksize={block}", "-put", "-f", local / "ratings.csv", local / "movies.csv", folder)
            if self.hadoop.nodes_of(f"{folder}/ratings.csv") == (BLOCKS, len(NODES)):
                break
        else:
            raise AssertionError(f"{folder}: no {BLOCKS} blocks on {len(NODES)} nodes in {PUT_TRIES} tries")
        self.expected[folder] = averages(local)
        return folder

    # -- jobs ----------------------------------------------------------------------------------

    def switched_on(self, name, *prefixes):
        """Settings that name the library in the environment of executors or ApplicationMaster."""
        return {f"{prefix}.{key}": value for prefix in prefixes for key, value in self.variables(name).items()}

    def variables(self, name):
        """The two variables that switch the library on."""
        return {"LD_PRELOAD": SHIM, "SPARKANALYZER_OUTPUT_DIR": self.records_dir(name)}

    def records_dir(self, name):
        """Where a test's records are, outside all that YARN deletes."""
        records = self.scratch / name / "records"
        records.mkdir(parents=True, exist_ok=True)
        return records

    def environment(self):
        """spark-submit's: it knows the cluster by HADOOP_CONF_DIR."""
        conf = self.scratch / "conf-submit"
        conf.mkdir(exist_ok=True)
        jars = self.spark.home / "jars"
        (conf / "spark-defaults.conf").write_text(
            f"spark.yarn.jars local:{jars}/*\n"
            "spark.ui.enabled false\n"
            "spark.ui.showConsoleProgress false\n"
            # The node's own yarn-site.xml, which has its shuffle service's port, before what the client sends along.
            "spark.executor.extraClassPath {{HADOOP_CONF_DIR}}\n",
            encoding="utf-8",
        )
        environment = standalone.Cluster(self.spark.home, self.scratch, self.spark.java).environment(conf)
        environment["HADOOP_CONF_DIR"] = str(self.hadoop.client_conf())
        environment["HADOOP_USER_NAME"] = "root"
        return environment

    def command(self, name, mode, settings, program, arguments, *more):
        """spark-submit's command line."""
        events = self.scratch / name / "events"
        events.mkdir(parents=True, exist_ok=True)
        conf = {
            "spark.eventLog.enabled": "true",
            "spark.eventLog.dir": f"file://{events}",
            "spark.eventLog.compress": "false",
            "spark.eventLog.rolling.enabled": "false",
            "spark.executor.memory": EXECUTOR_MEMORY,
            "spark.executor.memoryOverhead": self.overhead,
            "spark.driver.memory": EXECUTOR_MEMORY,
            "spark.pyspark.python": sys.executable,
            "spark.yarn.maxAppAttempts": 1,
        }
        if mode == "client":
            conf |= {"spark.driver.host": MASTER, "spark.driver.bindAddress": NODES[0][0]}
        conf |= settings
        options = [part for key, value in conf.items() for part in ("--conf", f"{key}={value}")]
        submit = self.spark.home / "bin" / "spark-submit"
        return [submit, "--master", "yarn", "--deploy-mode", mode, *options, *more, program, *map(str, arguments)]

    def submit(self, name, mode, settings, program, arguments, *more):
        """Starts a job; returns the process, its log is in `name`/submit.log."""
        command = self.command(name, mode, settings, program, arguments, *more)
        with open(self.scratch / name / "submit.log", "wb") as log:
            job = subprocess.Popen(
                command,
                env=self.environment(),
                cwd=self.scratch / name,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=standalone.die_with_parent,
            )
        self.jobs.append(job)
        return job

    def end_jobs(self):
        """Ends what a failed test has left behind, so that the next one has the cluster to itself."""
        left = [job for job in self.jobs if job.poll() is None]
        for job in left:
            job.kill()
            job.wait()
        if left:
            self.hadoop.restart_yarn()

    def finish(self, process, name, seconds=SUBMIT_SECONDS):
        """Waits for a job; it must succeed."""
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name}: no end within {seconds} s: {tail(self.scratch / name)}") from None
        assert code == 0, f"{name}: spark-submit ended with {code}: {tail(self.scratch / name)}"

    def average_rating(self, name, mode, settings, folder, *more, passes=0):
        """Starts the average rating per genre of a folder of HDFS."""
        program = HERE / "jobs" / "average_rating.py"
        arguments = [f"{folder}/ratings.csv", f"{folder}/movies.csv", f"/out/{name}", passes]
        return self.submit(name, mode, settings, program, arguments, "--py-files", HERE / "jobs" / "genres.py", *more)

    def run(self, name, mode, settings, folder, *more, passes=0):
        """As [`average_rating`], to its end."""
        self.finish(self.average_rating(name, mode, settings, folder, *more, passes=passes), name)

    # -- what comes out ------------------------------------------------------------------------

    def records(self, name):
        """What the library wrote in a test."""
        return Records(ANALYZER, self.records_dir(name))

    def event_log(self, name):
        """What Spark wrote about a test's job."""
        return EventLog(self.scratch / name / "events")

    def event_path(self, name):
        """The one event log of a test."""
        (path,) = (self.scratch / name / "events").iterdir()
        return path

    def aggregated_logs(self, application):
        """What `yarn logs` says, once both nodes have brought theirs."""
        deadline = time.monotonic() + LOGS_SECONDS
        while True:
            kept = self.hadoop.files("-ls", "-R", "/logs")
            if sum(f"/{application}/" in line for line in kept.splitlines()) >= len(NODES) and ".tmp" not in kept:
                break
            assert time.monotonic() < deadline, f"logs of {application} are not all in HDFS: {kept}"
            time.sleep(2)
        return self.hadoop.run("org.apache.hadoop.yarn.client.cli.LogsCLI", "-applicationId", application)

    def check_result(self, name, folder):
        """The job's lines in HDFS are those that this process has computed."""
        found = sorted(self.hadoop.files("-cat", f"/out/{name}/part-*").splitlines())
        assert found == self.expected[folder], f"{name}: wrong averages: {found[:3]}, expected {self.expected[folder][:3]}"

    def check(self, name, folder, roles, attempt="1", **keywords):
        """Every task of a test's job has its records, the roles are these, and the result is right."""
        records, log = self.records(name), self.event_log(name)
        must_agree(records, log, **keywords)
        self.check_result(name, folder)
        found = {header["role"] for header in records.headers}
        assert found == roles, f"{name}: records of {sorted(found)}, expected {sorted(roles)}"
        for header in records.headers:
            told = (header["application_id"], header["application_attempt"])
            assert told == (log.application_id, attempt), f"{name}: a {header['role']} says it is of {told}"
            assert header["container"], f"{name}: a {header['role']} names no container"
            if header["role"] != "driver":
                assert header["node"] in dict(map(reversed, NODES)), f"{name}: node {header['node']}"
        return records, log


def averages(directory):
    """The job's lines, computed without Spark."""
    def lines(file):
        with open(directory / file, encoding="utf-8") as text:
            yield from (line.rstrip("\n") for line in text)

    movies = dict(pair for line in lines("movies.csv") for pair in genres.movie(line))
    totals = {}
    for text in lines("ratings.csv"):
        for movie, stars in genres.rating(text):
            for genre in movies[movie]:
                totals[genre] = genres.add(totals.get(genre, (0.0, 0)), stars)
    return sorted(map(genres.line, totals.items()))


class Life(typing.NamedTuple):
    """Where and from when to when an executor was there."""

    host: str
    cores: int
    added_ms: int
    removed_ms: int | None


def executors(path):
    """Each executor's life, from an event log."""
    lives = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["Event"] == "SparkListenerExecutorAdded":
            info = event["Executor Info"]
            lives[event["Executor ID"]] = Life(info["Host"], info["Total Cores"], event["Timestamp"], None)
        elif event["Event"] == "SparkListenerExecutorRemoved":
            number = event["Executor ID"]
            lives[number] = lives[number]._replace(removed_ms=event["Timestamp"])
    return lives


def tasks_per_stage(log, last=len(STAGES)):
    """How many tasks succeeded in each of the last stages."""
    counts = {}
    for event in log.tasks.values():
        if event["Task End Reason"]["Reason"] == "Success":
            counts[event["Stage ID"]] = counts.get(event["Stage ID"], 0) + 1
    return [counts[stage] for stage in sorted(counts)][-last:]


def localities(log):
    """How many tasks ran at each distance from their data."""
    counts = {}
    for event in log.tasks.values():
        level = event["Task Info"]["Locality"]
        counts[level] = counts.get(level, 0) + 1
    return counts


def wait_for(condition, process, name, seconds=240):
    """Waits for something that must happen before the job ends; what the condition gave."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        assert process.poll() is None, f"{name}: the job ended before it happened"
        time.sleep(0.2)
    raise AssertionError(f"{name}: it did not happen within {seconds} s")
