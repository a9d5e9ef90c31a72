"""A real Spark standalone cluster on loopback: one master, N workers, each worker a node of its own.

Used by the demo and by the cluster tests. Nothing is patched: the processes are started with
Spark's own `bin/spark-class`, every worker has a private SPARK_CONF_DIR, and whatever is to be
switched on for the executors (LD_PRELOAD, SPARKANALYZER_*) stands in that directory's spark-env.sh,
as it would on a real cluster.

As a command: starts the cluster, runs a command with SPARK_MASTER_URL, SPARK_HOME, SPARK_CONF_DIR
and JAVA_HOME in its environment, stops everything, passes the command's exit code on.

    cluster.py --spark HOME --work DIR [--java HOME] [--workers N] [--preload LIB]
               [--worker-env KEY=VALUE]... -- COMMAND [ARG]...

Everything is stopped by process id: on return, on an exception, on SIGINT and SIGTERM; if this
process is killed outright the kernel ends master and workers (PR_SET_PDEATHSIG), and executors end
by themselves when their worker is gone.
"""

import argparse
import contextlib
import ctypes
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

START_SECONDS = 90
STOP_SECONDS = 15
PR_SET_PDEATHSIG = 1  # <linux/prctl.h>

_libc = ctypes.CDLL(None, use_errno=True)


class ClusterError(Exception):
    """The cluster did not come up, or one of its processes ended early."""


def die_with_parent():
    """For a child before it executes: the kernel ends it when this process is gone."""
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def descendants(pid):
    """Process ids below `pid`, nearest first (from /proc, so a vanished process is no error)."""
    children = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as stat:
                after_name = stat.read().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(after_name[1]), []).append(int(entry))
    found, queue = [], [pid]
    while queue:
        for child in children.get(queue.pop(0), []):
            found.append(child)
            queue.append(child)
    return found


def command_line(pid):
    """The arguments of a process, empty if it is gone."""
    try:
        raw = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return []
    return [part.decode(errors="replace") for part in raw.split(b"\0") if part]


def start_ticks(pid):
    """When a process started; None if it is gone or a zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            fields = stat.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def identified(pids):
    """Process ids with their start times: an id may be given out again, the pair never."""
    return [(pid, ticks) for pid in pids if (ticks := start_ticks(pid)) is not None]


def end_processes(processes, seconds):
    """Waits for [`identified`] processes to end, kills those that are left."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(start_ticks(pid) == ticks for pid, ticks in processes):
        time.sleep(0.1)
    for pid, ticks in processes:
        if start_ticks(pid) == ticks:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class Cluster:
    """Master and workers; use as a context manager."""

    def __init__(self, spark, work, java=None, workers=2, cores=1, memory="1g", worker_env=None):
        self.spark = pathlib.Path(spark).resolve()
        self.work = pathlib.Path(work).resolve()
        self.java = java
        self.worker_count = workers
        self.cores = cores
        self.memory = memory
        self.worker_env = dict(worker_env or {})
        self.url = None
        self.master = None
        self.workers = []

    # -- environment ---------------------------------------------------------------------------

    def environment(self, conf_dir, local_ip="127.0.0.1"):
        """What a Spark process of this cluster is started with; nothing of ours leaks into it."""
        env = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("SPARK", "PYSPARK", "LD_PRELOAD", "JAVA_TOOL_OPTIONS"))
        }
        env.update(
            SPARK_HOME=str(self.spark),
            SPARK_CONF_DIR=str(conf_dir),
            SPARK_LOCAL_IP=local_ip,
            PYSPARK_PYTHON=sys.executable,
        )
        if self.java:
            env["JAVA_HOME"] = str(self.java)
        return env

    def driver_environment(self):
        """For spark-submit: not preloaded, knows the master."""
        env = self.environment(self.work / "conf-driver")
        env["SPARK_MASTER_URL"] = self.url
        return env

    def prepare_driver(self):
        """Writes the driver's configuration directory; also all that local mode needs."""
        return self._conf_dir("conf-driver")

    def node_dir(self, number):
        """Where worker `number` (1, 2, ...) keeps what is its own."""
        return self.work / f"node-{number}"

    def _conf_dir(self, name, spark_env=None):
        conf = self.work / name
        conf.mkdir(parents=True, exist_ok=True)
        (conf / "spark-defaults.conf").write_text(
            "spark.driver.host 127.0.0.1\n"
            "spark.driver.bindAddress 127.0.0.1\n"
            "spark.master.rest.enabled false\n"
            "spark.ui.enabled false\n"
            "spark.ui.showConsoleProgress false\n",
            encoding="utf-8",
        )
        (conf / "log4j2.properties").write_text(
            "rootLogger.level = info\n"
            "rootLogger.appenderRef.stderr.ref = stderr\n"
            "appender.stderr.type = Console\n"
            "appender.stderr.name = stderr\n"
            "appender.stderr.target = SYSTEM_ERR\n"
            "appender.stderr.layout.type = PatternLayout\n"
            "appender.stderr.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex\n",
            encoding="utf-8",
        )
        if spark_env:
            lines = [f"export {key}={shlex.quote(str(value))}\n" for key, value in spark_env.items()]
            (conf / "spark-env.sh").write_text("".join(lines), encoding="utf-8")
        return conf

    # -- life ----------------------------------------------------------------------------------

    def _start(self, name, conf_dir, local_ip, main_class, arguments):
        log_path = self.work / f"{name}.log"
        with open(log_path, "wb") as log:
            process = subprocess.Popen(
                [str(self.spark / "bin" / "spark-class"), main_class, *map(str, arguments)],
                env=self.environment(conf_dir, local_ip),
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches this script alone: it then stops the processes in order.
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        process.log_path = log_path
        return process

    def _wait_for_log(self, process, pattern):
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            text = process.log_path.read_text(encoding="utf-8", errors="replace")
            match = re.search(pattern, text)
            if match:
                return match
            if process.poll() is not None:
                raise ClusterError(f"{process.log_path.name} ended early:\n{text[-3000:]}")
            time.sleep(0.1)
        raise ClusterError(f"{process.log_path}: no «{pattern}» within {START_SECONDS} s")

    def start(self):
        """Returns when every worker is registered with the master."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.prepare_driver()
        self.master = self._start(
            "master",
            self._conf_dir("conf-master"),
            "127.0.0.1",
            "org.apache.spark.deploy.master.Master",
            ["--host", "127.0.0.1", "--port", 0, "--webui-port", 0],
        )
        self.url = self._wait_for_log(self.master, r"Starting Spark master at (spark://[\d.:]+)")[1]
        for number in range(1, self.worker_count + 1):
            node = self.node_dir(number)
            (node / "work").mkdir(parents=True, exist_ok=True)
            own = {
                key: str(value).replace("{node}", str(number))
                for key, value in self.worker_env.items()
            }
            conf = self._conf_dir(f"node-{number}/conf", own)
            self.workers.append(
                self._start(
                    f"node-{number}/worker",
                    conf,
                    f"127.0.0.{number}",
                    "org.apache.spark.deploy.worker.Worker",
                    ["--host", f"127.0.0.{number}", "--webui-port", 0, "--cores", self.cores]
                    + ["--memory", self.memory, "--work-dir", node / "work", self.url],
                )
            )
        for worker in self.workers:
            self._wait_for_log(worker, "Successfully registered with master")
        return self

    def executors(self):
        """[(process id, arguments)] of the executors that run now."""
        running = []
        for worker in self.workers:
            for pid in descendants(worker.pid):
                arguments = command_line(pid)
                if any("CoarseGrainedExecutorBackend" in part for part in arguments):
                    running.append((pid, arguments))
        return running

    def stop(self):
        """Ends workers (which end their executors), then the master; by process id, never by name."""
        started = [*self.workers, *([self.master] if self.master else [])]
        below = identified(pid for process in started for pid in descendants(process.pid))
        for process in started:
            if process.poll() is None:
                process.terminate()
        deadline = time.monotonic() + STOP_SECONDS
        for process in started:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        end_processes(below, max(0.1, deadline - time.monotonic()))
        self.workers, self.master = [], None

    def __enter__(self):
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_):
        self.stop()

    # -- jobs ----------------------------------------------------------------------------------

    def submit(self, arguments, **keywords):
        """Runs spark-submit against this cluster; `arguments` are options, program, its arguments."""
        return subprocess.run(
            [str(self.spark / "bin" / "spark-submit"), "--master", self.url, *map(str, arguments)],
            env=self.driver_environment(),
            cwd=self.work,
            stdin=subprocess.DEVNULL,
            **keywords,
        )


def stop_on_signals():
    """SIGTERM and SIGHUP end the script the way Ctrl-C does: through its `finally` blocks."""

    def leave(number, _frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGHUP, leave)


def run_beside(command, environment):
    """Runs a command to its end; if this script is told to stop, so are the command and what it started."""
    process = subprocess.Popen(command, env=environment)
    try:
        return process.wait()
    finally:
        if process.poll() is None:
            below = identified([process.pid, *descendants(process.pid)])
            for pid, _ in below:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            end_processes(below, 5)


def main():
    parser = argparse.ArgumentParser(description="run a command beside a standalone Spark cluster")
    parser.add_argument("--spark", required=True)
    parser.add_argument("--work", required=True)
    parser.add_argument("--java")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--preload")
    parser.add_argument("--worker-env", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    worker_env = dict(pair.split("=", 1) for pair in options.worker_env)
    if options.preload:
        worker_env["LD_PRELOAD"] = options.preload
    stop_on_signals()
    cluster = Cluster(
        options.spark, options.work, options.java, options.workers, worker_env=worker_env
    )
    try:
        with cluster:
            return run_beside(options.command, cluster.driver_environment())
    except ClusterError as error:
        print(f"cluster.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
