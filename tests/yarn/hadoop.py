"""Hadoop's own daemons: a NameNode, two DataNodes, a ResourceManager and two NodeManagers, each a JVM of its own.

Nothing is patched and no script of Hadoop's is needed: every daemon is its main class on Maven Central's jars, with a
configuration folder of its own, as on a node of its own. They need the network of own_network.py: ports are Hadoop's
usual ones, and the second node's address differs. All are stopped by process id.
"""

import os
import pathlib
import re
import subprocess
import sys
import time
from xml.sax.saxutils import escape

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent.parent / "demo")]

import cluster as processes  # noqa: E402

NODES = (("127.0.0.1", "node-1"), ("127.0.0.2", "node-2"))
MASTER = NODES[0][1]
FILE_SYSTEM = f"hdfs://{MASTER}:8020"
START_SECONDS = 120
STOP_SECONDS = 20
COMMAND_SECONDS = 120
# Spark's executors read their node's port from yarn-site.xml: the service listens on every address.
SHUFFLE_PORTS = (7337, 7338)

DAEMONS = {
    "namenode": ("org.apache.hadoop.hdfs.server.namenode.NameNode", 160),
    "datanode": ("org.apache.hadoop.hdfs.server.datanode.DataNode", 128),
    "resourcemanager": ("org.apache.hadoop.yarn.server.resourcemanager.ResourceManager", 192),
    "nodemanager": ("org.apache.hadoop.yarn.server.nodemanager.NodeManager", 192),
}

LOG4J = """log4j.rootLogger=INFO,stderr
log4j.appender.stderr=org.apache.log4j.ConsoleAppender
log4j.appender.stderr.target=System.err
log4j.appender.stderr.layout=org.apache.log4j.PatternLayout
log4j.appender.stderr.layout.ConversionPattern=%d{HH:mm:ss} %p %c{1}: %m%n
"""

# Which rack a node is in: each in its own, or both in one.
RACKS = """#!/bin/sh
# Hadoop asks for several nodes at once.
for node do
    case "$node" in
        {first} | {first_address}) echo /rack-a ;;
        *) echo {other} ;;
    esac
done
"""


class HadoopError(Exception):
    """A daemon did not come up, ended early, or a command failed."""


def write_xml(path, settings):
    """A configuration file of Hadoop's."""
    rows = [
        f"  <property><name>{escape(key)}</name><value>{escape(str(value))}</value></property>\n"
        for key, value in settings.items()
    ]
    path.write_text(f"<?xml version=\"1.0\"?>\n<configuration>\n{''.join(rows)}</configuration>\n", encoding="utf-8")


class Hadoop:
    """HDFS and YARN of two nodes; use as a context manager."""

    def __init__(self, jars, shuffle_jars, java, work, node_memory_mib=3072):
        self.jars, self.shuffle_jars, self.java = pathlib.Path(jars), pathlib.Path(shuffle_jars), java
        self.work = pathlib.Path(work)
        self.node_memory_mib = node_memory_mib
        self.daemons = {}
        self.enforces_memory = False

    # -- configuration -------------------------------------------------------------------------

    def client_conf(self):
        """HADOOP_CONF_DIR of whoever submits."""
        return self.work / "conf-client"

    def _conf_dir(self, directory, number=None, admin_env=None):
        """Files for node `number` (0, 1), or for a client."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "log4j.properties").write_text(LOG4J, encoding="utf-8")
        core = {"fs.defaultFS": FILE_SYSTEM, "hadoop.tmp.dir": self.work / "tmp"}
        if (self.work / "racks.sh").exists():
            core["net.topology.script.file.name"] = self.work / "racks.sh"
        write_xml(directory / "core-site.xml", core)
        write_xml(directory / "hdfs-site.xml", self._hdfs(number))
        write_xml(directory / "yarn-site.xml", self._yarn(number, admin_env))
        queue = "yarn.scheduler.capacity.root"
        write_xml(
            directory / "capacity-scheduler.xml",
            {
                f"{queue}.queues": "default",
                f"{queue}.default.capacity": 100,
                "yarn.scheduler.capacity.maximum-am-resource-percent": 0.5,
            },
        )
        return directory

    def _hdfs(self, number):
        settings = {
            "dfs.replication": 1,
            "dfs.namenode.rpc-address": f"{MASTER}:8020",
            "dfs.namenode.http-address": f"{MASTER}:9870",
            "dfs.namenode.name.dir": f"file://{self.work}/name",
            "dfs.namenode.safemode.extension": 0,
            # Both nodes' connections come from 127.0.0.1; DataNodes are known by what they are called.
            "dfs.namenode.datanode.registration.ip-hostname-check": "false",
            "dfs.client.use.datanode.hostname": "true",
            "dfs.datanode.use.datanode.hostname": "true",
        }
        if number is not None:
            address, name = NODES[number]
            settings |= {
                "dfs.datanode.hostname": name,
                # The NameNode takes two with the same port for one that has come back.
                "dfs.datanode.address": f"{address}:{9866 + 10_000 * number}",
                "dfs.datanode.http.address": f"{address}:9864",
                "dfs.datanode.ipc.address": f"{address}:9867",
                "dfs.datanode.data.dir": f"file://{self.work}/{name}/data",
            }
        return settings

    def _yarn(self, number, admin_env):
        settings = {
            "yarn.resourcemanager.hostname": MASTER,
            "yarn.resourcemanager.am.max-attempts": 2,
            "yarn.resourcemanager.connect.retry-interval.ms": 500,
            "yarn.scheduler.minimum-allocation-mb": 64,
            "yarn.scheduler.maximum-allocation-mb": self.node_memory_mib,
            "yarn.node-attribute.fs-store.root-dir": f"file://{self.work}/node-attributes",
            "yarn.log-aggregation-enable": "true",
            "yarn.nodemanager.remote-app-log-dir": "/logs",
        }
        if number is None:
            return settings
        address, name = NODES[number]
        settings |= {
            "yarn.nodemanager.hostname": name,
            "yarn.nodemanager.address": f"{address}:8041",
            "yarn.nodemanager.localizer.address": f"{address}:8040",
            "yarn.nodemanager.webapp.address": f"{address}:8042",
            "yarn.nodemanager.collector-service.address": f"{address}:8048",
            "yarn.nodemanager.local-dirs": self.work / name / "local",
            "yarn.nodemanager.log-dirs": self.work / name / "logs",
            "yarn.nodemanager.resource.memory-mb": self.node_memory_mib,
            "yarn.nodemanager.resource.cpu-vcores": 8,
            # Where this is true, YARN leaves memory to control groups. Else it adds up the resident memory of all
            # processes of a container and kills one that has more than it asked for. Addresses without memory
            # are not looked at, as on most clusters: a JVM reserves more of them than twice its memory.
            "yarn.nodemanager.resource.memory.enforced": str(not self.enforces_memory).lower(),
            "yarn.nodemanager.pmem-check-enabled": "true",
            "yarn.nodemanager.vmem-check-enabled": "false",
            "yarn.nodemanager.container-monitor.interval-ms": 500,
            "yarn.nodemanager.disk-health-checker.max-disk-utilization-per-disk-percentage": 99.5,
            "yarn.nodemanager.delete.debug-delay-sec": 0,
            "yarn.nodemanager.env-whitelist": "JAVA_HOME,HADOOP_CONF_DIR,SPARK_LOCAL_IP",
            "yarn.nodemanager.aux-services": "spark_shuffle",
            "yarn.nodemanager.aux-services.spark_shuffle.class": "org.apache.spark.network.yarn.YarnShuffleService",
            "yarn.nodemanager.aux-services.spark_shuffle.classpath": f"{self.shuffle_jars}/*",
            "spark.shuffle.service.port": SHUFFLE_PORTS[number],
        }
        if admin_env:
            pairs = [f"{key}={value}" for key, value in admin_env.items()]
            settings["yarn.nodemanager.admin-env"] = ",".join(["MALLOC_ARENA_MAX=$MALLOC_ARENA_MAX", *pairs])
        return settings

    def set_racks(self, one_rack):
        """Hadoop asks a script which rack a node is in: one for both nodes, or one each. For daemons that start now."""
        script = self.work / "racks.sh"
        (address, name), other = NODES[0], "/rack-a" if one_rack else "/rack-b"
        script.write_text(RACKS.format(first=name, first_address=address, other=other), encoding="utf-8")
        script.chmod(0o755)

    # -- life ----------------------------------------------------------------------------------

    def _environment(self, conf_dir, number):
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER")
        environment = {key: value for key, value in os.environ.items() if key in kept}
        environment.update(
            JAVA_HOME=str(self.java), HADOOP_CONF_DIR=str(conf_dir), SPARK_LOCAL_IP=NODES[number][0], HADOOP_USER_NAME="root"
        )
        return environment

    def _java(self, conf_dir, heap_mib, main_class, *arguments):
        return [
            f"{self.java}/bin/java",
            f"-Xmx{heap_mib}m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-Djava.net.preferIPv4Stack=true",
            "--add-opens=java.base/java.lang=ALL-UNNAMED",
            "-cp",
            f"{conf_dir}:{self.work}/pages:{self.jars}/*",
            main_class,
            *map(str, arguments),
        ]

    def _start(self, kind, number):
        name = f"{kind}-{number + 1}"
        conf_dir = self.work / NODES[number][1] / "conf"
        main_class, heap = DAEMONS[kind]
        log_path = self.work / f"{name}.log"
        with open(log_path, "wb") as log:
            daemon = subprocess.Popen(
                self._java(conf_dir, heap, main_class),
                env=self._environment(conf_dir, number),
                cwd=self.work,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_as_a_daemon,
            )
        daemon.log_path = log_path
        self.daemons[name] = daemon

    def _wait(self, name, pattern, times=1):
        """Waits until a daemon's log has this so often."""
        daemon = self.daemons[name]
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            text = daemon.log_path.read_text(encoding="utf-8", errors="replace")
            if len(re.findall(pattern, text)) >= times:
                return
            for other, process in self.daemons.items():
                if process.poll() is not None:
                    end = process.log_path.read_text(encoding="utf-8", errors="replace")[-3000:]
                    raise HadoopError(f"{other} ended with {process.poll()}: {end}")
            time.sleep(0.2)
        raise HadoopError(f"{name}: no «{pattern}» within {START_SECONDS} s: {text[-3000:]}")

    def start(self, admin_env=None):
        """Formats HDFS and starts all daemons; returns when both NodeManagers are registered."""
        self.work.mkdir(parents=True, exist_ok=True)
        # Pages of the web servers, which are in Hadoop's tarball and not in its jars: the servers want the folders.
        for server in ("hdfs", "datanode", "static"):
            (self.work / "pages" / "webapps" / server).mkdir(parents=True)
        self._conf_dir(self.client_conf())
        for number, (_, name) in enumerate(NODES):
            self._conf_dir(self.work / name / "conf", number, admin_env)
        self.run("org.apache.hadoop.hdfs.server.namenode.NameNode", "-format", "-nonInteractive", "-force")
        self._start("namenode", 0)
        self._start("resourcemanager", 0)
        for kind in ("datanode", "nodemanager"):
            for number in range(len(NODES)):
                self._start(kind, number)
        self._wait("namenode-1", "registerDatanode: from", len(NODES))
        self._wait("resourcemanager-1", "NodeManager from node", len(NODES))
        return self

    def restart_yarn(self, admin_env=None, enforces_memory=False):
        """ResourceManager and NodeManagers anew; containers get the variables of `admin_env`, beside those of the job, and
        are killed or not when their processes together have more memory than they asked for."""
        self.enforces_memory = enforces_memory
        self._stop([name for name in self.daemons if name.startswith(("nodemanager", "resourcemanager"))])
        self._conf_dir(self.client_conf())
        for number, (_, name) in enumerate(NODES):
            self._conf_dir(self.work / name / "conf", number, admin_env)
        self._start("resourcemanager", 0)
        for number in range(len(NODES)):
            self._start("nodemanager", number)
        self._wait("resourcemanager-1", "NodeManager from node", len(NODES))

    def containers(self):
        """[(process id, arguments)] of the JVMs that run in containers now, the shells around them left out."""
        running = []
        for name, daemon in self.daemons.items():
            if name.startswith("nodemanager"):
                for pid in processes.descendants(daemon.pid):
                    arguments = processes.command_line(pid)
                    if arguments and arguments[0].endswith("/java"):
                        running.append((pid, arguments))
        return running

    def _stop(self, names):
        """NodeManagers first, which end their containers; then what they used."""
        stopped = [self.daemons.pop(name) for name in sorted(names, key=lambda name: not name.startswith("nodemanager"))]
        below = processes.identified(pid for daemon in stopped for pid in processes.descendants(daemon.pid))
        deadline = time.monotonic() + STOP_SECONDS
        for daemon in stopped:
            if daemon.poll() is None:
                daemon.terminate()
        for daemon in stopped:
            try:
                daemon.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        processes.end_processes(below, 5)

    def stop(self):
        """Ends every daemon and every container."""
        self._stop(list(self.daemons))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    # -- commands ------------------------------------------------------------------------------

    def run(self, main_class, *arguments):
        """Runs one of Hadoop's commands; its standard output."""
        conf_dir = self.client_conf()
        done = subprocess.run(
            self._java(conf_dir, 160, main_class, *arguments),
            env=self._environment(conf_dir, 0),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise HadoopError(f"{main_class} {' '.join(map(str, arguments))}: {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def files(self, *arguments):
        """`hdfs dfs ARGUMENTS`."""
        return self.run("org.apache.hadoop.fs.FsShell", *arguments)

    def nodes_of(self, path):
        """How many blocks a file has, and on how many DataNodes they are."""
        told = self.run("org.apache.hadoop.hdfs.tools.DFSck", path, "-files", "-blocks", "-locations")
        places = re.findall(r"DatanodeInfoWithStorage\[([\d.:]+)", told)
        return len(places), len(set(places))


def _as_a_daemon():
    processes.die_with_parent()
    os.nice(5)
