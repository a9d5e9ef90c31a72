#!/usr/bin/env bash
# Counted jobs on real YARN and HDFS; one line per test: PASS name | FAIL name | SKIP name: reason
#   tests/yarn/soak.sh [--long] [--only PART_OF_A_NAME]
PYTHONDONTWRITEBYTECODE=1 exec python3 "$(dirname "${BASH_SOURCE[0]}")/suite.py" "$@"
