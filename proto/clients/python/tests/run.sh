#!/usr/bin/env bash
# Runs the tests of the Python client; exits 77 (skipped, for CTest) without a Python to run them.
#
# usage: run.sh [PYTEST OPTION...]
#
# CCOE_PYTHON is a Python with tests/e2e/requirements.txt and the client.

set -euo pipefail

main() {
  if [[ -z "${CCOE_PYTHON:-}" ]]; then
    echo "skipped: CCOE_PYTHON is not set (make test sets it)"
    exit 77
  fi
  cd "$(dirname "${BASH_SOURCE[0]}")"
  exec "$CCOE_PYTHON" -m pytest -q -p no:cacheprovider \
    ${CCOE_TEST_REPORTS:+"--junitxml=$CCOE_TEST_REPORTS/python_client.xml"} "$@"
}

main "$@"
