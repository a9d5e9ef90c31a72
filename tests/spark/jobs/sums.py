"""Integer sums over two shuffles, in the JVM alone: TASKS tasks in the first stage.

spark-submit sums.py TASKS ROWS_PER_TASK OUTPUT_DIR
"""

import sys

from pyspark.sql import SparkSession


def main(tasks, rows, output):
    spark = SparkSession.builder.appName("sums").getOrCreate()
    numbers = spark.range(0, tasks * rows, 1, tasks)
    keyed = numbers.selectExpr("id % 10007 as key", "hash(id) % 1000 as value")
    sums = keyed.groupBy("key").agg({"value": "sum"}).orderBy("key")
    sums.write.csv(output)
    spark.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
