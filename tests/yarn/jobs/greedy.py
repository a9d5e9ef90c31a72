"""Four tasks, one of which takes more memory than its container may have, the first time that it runs.

    spark-submit greedy.py OUTPUT
"""

import sys
import time

from pyspark import SparkContext, TaskContext

BYTES = 1_500_000_000
SECONDS = 60


def task(number):
    """Takes memory, page by page, until it is stopped; every other attempt adds a few numbers."""
    if number == 3 and TaskContext.get().attemptNumber() == 0:
        taken = bytearray(BYTES)
        taken[::4096] = b"x" * len(taken[::4096])
        time.sleep(SECONDS)
    return f"{number},{sum(range(number, 400_000))}"


def main(output):
    context = SparkContext(appName="greedy")
    context.parallelize(range(4), 4).map(task).saveAsTextFile(output)
    context.stop()


if __name__ == "__main__":
    main(sys.argv[1])
