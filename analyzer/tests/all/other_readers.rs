//! The Parquet store as DuckDB and pandas read it; Spark reads one in `tests/spark`. A test of `./run soak`:
//! it fetches both from PyPI.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::fixture::{APPLICATION, event_log, executors_with_engine, expect, report, rows};
use serde_json::Value;

/// The sums that a reader makes of a store, as JSON on standard output.
const DUCKDB: &str = "
import duckdb, json, sys
tasks = duckdb.read_parquet(sys.argv[1] + '/tasks/**/*.parquet', hive_partitioning=True)
rows = duckdb.sql('''SELECT count(*), sum(instructions), sum(file_read_bytes), min(app), max(app),
    count(*) FILTER (node = '127.0.0.1') FROM tasks''').fetchone()
joined = duckdb.sql(f'''SELECT count(*) FROM tasks JOIN
    read_parquet('{sys.argv[1]}/spark_tasks/**/*.parquet') AS s USING (application_id, task_id)''').fetchone()
print(json.dumps([int(value) if not isinstance(value, str) else value for value in rows + joined]))
";
const PANDAS: &str = "
import json, sys, pandas
tasks = pandas.read_parquet(sys.argv[1] + '/tasks')
spark = pandas.read_parquet(sys.argv[1] + '/spark_tasks')
joined = tasks.merge(spark, on=['application_id', 'task_id'])
apps = tasks['app'].astype(str)
print(json.dumps([len(tasks), int(tasks['instructions'].sum()), int(tasks['file_read_bytes'].sum()),
    apps.min(), apps.max(), int((tasks['node'] == '127.0.0.1').sum()), len(joined)]))
";

fn read(packages: &Path, program: &str, store: &Path) -> Value {
    let output = Command::new("python3")
        .args(["-c", program])
        .arg(store)
        .env("PYTHONPATH", packages)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
#[ignore = "fetches 90 MB from PyPI"]
fn duckdb_and_pandas_read_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let packages = at.join("packages");
    let fetched = Command::new("pip3")
        .args(["install", "--quiet", "--disable-pip-version-check", "--target"])
        .arg(&packages)
        .args(["duckdb==1.4.2", "pandas==2.3.3", "pyarrow==22.0.0"])
        .output()
        .unwrap();
    if !fetched.status.success() {
        let error = String::from_utf8_lossy(&fetched.stderr).into_owned();
        tests::skip::skip("duckdb_and_pandas_read_the_store", &error);
        return;
    }
    for writer in executors_with_engine() {
        writer.save(&at.join("records"));
    }
    let log = event_log();
    expect(at, 0, &["ingest", "records", "--event-log", log.to_str().unwrap()]);
    let total = report(at, &["--by", "task"]);
    let rows = rows(&total).iter().filter(|row| row["part"] == "tasks");
    let sum = |figure: &str| rows.clone().map(|row| row[figure].as_u64().unwrap()).sum::<u64>();
    let on_one = rows.clone().filter(|row| row["executor_id"] == "1").count();
    let expected = serde_json::json!([
        10,
        sum("instructions"),
        sum("file_read_bytes"),
        APPLICATION,
        APPLICATION,
        on_one,
        10
    ]);
    let store = at.join("sparkanalyzer-store");
    assert_eq!(read(&packages, DUCKDB, &store), expected);
    assert_eq!(read(&packages, PANDAS, &store), expected);
    fs::remove_dir_all(packages).unwrap();
}
