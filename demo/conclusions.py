"""What the demo's own figures say, in five sentences: conclusions.py ANALYZER STORE.

Every number is read from `analyzer report --format json`; what a figure does not support is not said.
"""

import json
import subprocess
import sys


def report(analyzer, store, *arguments):
    command = [analyzer, "report", "--store", store, "--format", "json", *arguments]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def human(number):
    for unit in ("", " thousand", " million", " billion"):
        if number < 1000:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} trillion"


def names(document):
    return {(one["application_id"], one["stage"], one["stage_attempt"]): one["name"] for one in document["stages"]}


def sentences(document, by_node, applications):
    tasks = [row for row in document["rows"] if row["part"] == "tasks" and row["instructions"]]
    whole = sum(row["instructions"] for row in tasks)
    called = names(document)

    def name(row):
        key = (row["application_id"], row["stage"], row["stage_attempt"])
        return f"stage {row['stage']} of {applications[row['application_id']]} ({called.get(key) or 'without a name'})"

    dearest = max(tasks, key=lambda row: row["instructions"])
    share = 100 * dearest["instructions"] / whole
    yield (
        f"The jobs' {sum(row['tasks'] for row in tasks)} tasks executed {human(whole)} instructions, "
        f"{share:.0f} % of them in {name(dearest)}."
    )
    per_record = [(row, row["instructions"] / row["spark_input_records"]) for row in tasks if row["spark_input_records"]]
    if per_record:
        row, cost = max(per_record, key=lambda pair: pair[1])
        yield f"Most instructions per record that was read, {human(cost)}, were needed by {name(row)}."
    nodes = {}
    for row in by_node["rows"]:
        if row["part"] == "tasks" and row["instructions"]:
            nodes[row["node"]] = nodes.get(row["node"], 0) + row["instructions"]
    if len(nodes) > 1:
        most, least = max(nodes, key=nodes.get), min(nodes, key=nodes.get)
        yield f"{most} executed {nodes[most] / nodes[least]:.2f} times what {least} did."
    memory = sum(row["memory_bytes"] for row in tasks if row["memory_bytes"])
    shuffled = sum(row["spark_shuffle_bytes"] for row in tasks if row["spark_shuffle_bytes"])
    if memory and shuffled:
        yield (
            f"For each byte that went through a shuffle tasks moved {human(memory / shuffled)} bytes between processor "
            f"and memory."
        )
    found = document["findings"]
    if found:
        first = found[0]
        yield (
            f"{len(found)} findings, the first: {first['rule'].replace('_', ' ')} in "
            f"{applications[first['application_id']]}: {first['evidence']}."
        )
    else:
        yield "No rule found anything wrong."


def main(analyzer, store):
    listed = subprocess.run(
        [analyzer, "apps", "--store", store, "--format", "json"], check=True, stdout=subprocess.PIPE
    )
    applications = {
        one["application_id"]: f"«{one['name']}»" for one in json.loads(listed.stdout)["applications"]
    }
    for sentence in sentences(report(analyzer, store), report(analyzer, store, "--by", "node"), applications):
        print(f"  {sentence}")


if __name__ == "__main__":
    main(*sys.argv[1:])
