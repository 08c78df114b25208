#!/usr/bin/env bash
# Runs the tests of the files for Prometheus and Grafana; exits 77 (skipped, for CTest) without
# CCOE_PYTHON, a Python with tests/e2e/requirements.txt. CCOE_PROMETHEUS is the folder of promtool.
#
# usage: run.sh [PYTEST OPTION...]

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if [[ -z "${CCOE_PYTHON:-}" ]]; then
  printf 'skipped: CCOE_PYTHON is not set (make test sets it)\n'
  exit 77
fi
exec "$CCOE_PYTHON" -m pytest -q -p no:cacheprovider \
  ${CCOE_TEST_REPORTS:+"--junitxml=$CCOE_TEST_REPORTS/monitoring.xml"} "$@"
