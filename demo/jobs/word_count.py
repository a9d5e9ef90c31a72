"""Word count: how often each word occurs in a text file. Runs in the executors' JVMs alone.

spark-submit word_count.py TEXT OUTPUT_DIR
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql.functions import col, explode, lower, split


def main(text, output):
    spark = SparkSession.builder.appName("word count").getOrCreate()
    spark.sparkContext.setJobDescription("count the words, most frequent first")
    words = (
        spark.read.text(text)
        .select(explode(split(lower(col("value")), "[^a-z]+")).alias("word"))
        .where("word <> ''")
    )
    counts = words.groupBy("word").count().orderBy(col("count").desc(), "word")
    counts.write.mode("overwrite").csv(output)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
