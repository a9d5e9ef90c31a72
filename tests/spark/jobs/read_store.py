"""Reads a store's table of tasks as any user of Spark would, and writes a few sums: read_store.py STORE OUT."""

import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f

store, out = sys.argv[1:]
spark = SparkSession.builder.getOrCreate()
tasks = spark.read.parquet(f"{store}/tasks")
row = tasks.agg(
    f.count("*").alias("tasks"),
    f.sum("instructions").alias("instructions"),
    f.sum("file_read_bytes").alias("file_read_bytes"),
).first()
# The folder's name gives a column of its own, by which Spark leaves out what is not asked for.
applications = sorted(row["app"] for row in tasks.select("app").distinct().collect())
with open(out, "w", encoding="utf-8") as file:
    sums = {name: int(row[name] or 0) for name in ("tasks", "instructions", "file_read_bytes")}
    json.dump({**sums, "applications": applications}, file)
spark.stop()
