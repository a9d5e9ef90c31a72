"""Answers questions about a store on the Spark that runs this: driver.py SOCKET.

A question is a line of JSON, an answer some lines of JSON and then "." alone, or "!" and what went wrong.
"""

import json
import socket
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f


def of_text(spark, question):
    """A whole file of text."""
    for row in spark.read.text(question["path"], wholetext=True).collect():
        yield json.dumps(row[0])


def of_files(spark, question):
    """Names Parquet files as a table; each row knows its place."""
    read = spark.read.schema(question["schema"])
    frame = read.parquet(*question["paths"]) if question["paths"] else spark.createDataFrame([], question["schema"])
    if question["paths"]:
        frame = frame.select("*", "_metadata.file_name", "_metadata.row_index")
    else:
        frame = frame.select("*", f.lit("").alias("file_name"), f.lit(0).alias("row_index"))
    frame.createOrReplaceTempView(question["name"])
    return ()


def of_rows(spark, question):
    """Names rows that the question brings as a table."""
    rows = f.from_json(f.lit(question["rows"]), f"array<struct<{question['schema']}>>")
    frame = spark.range(1).select(f.explode(rows).alias("row")).select("row.*")
    frame.createOrReplaceTempView(question["name"])
    return ()


def of_query(spark, question):
    """What a query finds, a column of text: at once, or partition by partition if it may be much."""
    frame = spark.sql(question["sql"])
    for row in frame.toLocalIterator(prefetchPartitions=True) if question["is_large"] else frame.collect():
        yield row[0]


ANSWERS = {"text": of_text, "files": of_files, "rows": of_rows, "query": of_query}


def main():
    """Answers until nobody asks."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(sys.argv[1])
        spark = SparkSession.builder.getOrCreate()
        lines = connection.makefile("rw", encoding="utf-8", newline="\n")
        lines.write(json.dumps(spark.version) + "\n.\n")
        lines.flush()
        try:
            for line in lines:
                question = json.loads(line)
                try:
                    for answer in ANSWERS[question["is"]](spark, question):
                        lines.write(answer + "\n")
                    lines.write(".\n")
                except BrokenPipeError:
                    raise
                except Exception as error:  # pylint: disable=broad-except
                    lines.write("!" + json.dumps(str(error)) + "\n")
                lines.flush()
        except (BrokenPipeError, ConnectionResetError):
            pass  # The analyzer is gone, and with it the questions.
        spark.stop()


if __name__ == "__main__":
    main()
