"""Tasks that are overtaken, killed and left alone, executors that come and go; the results depend on none of it.

spark-submit comings_and_goings.py OUTPUT_DIR

Outside local mode, with speculation and dynamic allocation: the first attempt of one task sleeps until its copy has overtaken
it; a job is cancelled and its tasks are interrupted; another one is cancelled and its tasks go on until they notice; then
nothing happens until an executor has gone, and there is work until another one has come.
"""

import pathlib
import sys
import threading
import time

from pyspark import TaskContext
from pyspark.sql import SparkSession


def sum_slowly(rows):
    """The sum of a partition; the fourth one's first attempt takes its time."""
    context = TaskContext.get()
    if context.partitionId() == 3 and context.attemptNumber() == 0:
        time.sleep(120)
    yield context.partitionId(), sum(rows)


def cancelled(spark, group, interrupt):
    """Runs an endless query until its tasks run, and cancels it."""
    context = spark.sparkContext

    def query():
        context.setJobGroup(group, group, interruptOnCancel=interrupt)
        try:
            spark.range(0, 1 << 50, 1, 4).selectExpr("sum(hash(id))").collect()
        except Exception:  # pylint: disable=broad-except
            return
        raise AssertionError("the query came to an end")

    running = threading.Thread(target=query)
    running.start()
    tracker = context.statusTracker()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        if any(stage and stage.numActiveTasks for stage in stages):
            break
        time.sleep(0.1)
    time.sleep(0.5)
    context.cancelJobGroup(group)
    running.join()


def wait_for_executors(context, is_wanted, meanwhile):
    """Does something again and again until the number of executors is as it is wanted."""
    deadline = time.monotonic() + 120
    while not is_wanted(context._jsc.sc().getExecutorMemoryStatus().size() - 1):
        if time.monotonic() > deadline:
            raise AssertionError("no executor comes or goes")
        meanwhile()


def main(output):
    spark = SparkSession.builder.appName("comings and goings").getOrCreate()
    context = spark.sparkContext
    is_cluster = not context.master.startswith("local")
    work = sum_slowly if is_cluster else lambda rows: [(TaskContext.get().partitionId(), sum(rows))]
    sums = context.parallelize(range(8_000), 8).mapPartitions(work).collect()
    if is_cluster:
        cancelled(spark, "interrupted", True)
        cancelled(spark, "left alone", False)
        wait_for_executors(context, lambda number: number < 2, lambda: time.sleep(0.5))
        work = context.parallelize(range(8), 8)
        wait_for_executors(context, lambda number: number >= 2, lambda: work.foreach(lambda _: time.sleep(1)))
    keyed = spark.range(0, 400_000, 1, 8).selectExpr("id % 101 as key", "hash(id) % 1000 as value")
    grouped = keyed.groupBy("key").agg({"value": "sum"}).orderBy("key").collect()
    spark.stop()
    folder = pathlib.Path(output)
    folder.mkdir(parents=True)
    rows = "".join(f"{key},{value}\n" for key, value in [*sorted(sums), *map(tuple, grouped)])
    (folder / "part-00000").write_text(rows, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1].removeprefix("file://"))
