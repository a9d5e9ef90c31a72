#!/usr/bin/env bash
# The JVM bridge on real Spark clusters; one line per test: PASS name | FAIL name | SKIP name: reason
#   tests/spark/suite.sh [--only PART_OF_A_NAME]
PYTHONDONTWRITEBYTECODE=1 exec python3 "$(dirname "${BASH_SOURCE[0]}")/suite.py" "$@"
