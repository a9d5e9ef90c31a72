"""Tasks in Python whose work is known: the n-th of PARTITIONS does (1 + n modulo 4) times as many rounds.

    spark-submit python_tasks.py PARTITIONS ROUNDS OUTPUT_DIR
"""

import sys


def main(partitions, rounds, output):
    from pyspark.sql import SparkSession

    def work(index, _rows):
        number = index
        for _ in range(rounds * (1 + index % 4)):
            number = (number * 31 + 7) % 1_000_003
        yield f"{index},{number}"

    spark = SparkSession.builder.appName("python tasks").getOrCreate()
    spark.sparkContext.parallelize(range(partitions), partitions).mapPartitionsWithIndex(work).saveAsTextFile(output)
    spark.stop()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
