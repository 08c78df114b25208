#!/usr/bin/env bash
# Builds the examples in docs/examples and runs them; exits 77 (skipped, for CTest) without what only
# make test sets. What an example is built with is the group `test` of deploy/dev/bootstrap.sh; where
# a part of it is missing, the test of the example fails.
#
# usage: run.sh BUILD_DIR [PYTEST OPTION...]
#
# CCOE_PYTHON and CCOE_MODEL as for the end-to-end tests.

set -euo pipefail

skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}

main() {
  export CCOE_BUILD="$1" CCOE_BIN="$1/bin"
  shift
  [[ -n "${CCOE_MODEL:-}" ]] || skip "CCOE_MODEL is not set (make test sets it)"
  [[ -n "${CCOE_PYTHON:-}" ]] || skip "CCOE_PYTHON is not set (make test sets it)"
  [[ -x "$CCOE_BIN/ccoe" ]] || skip "$CCOE_BIN/ccoe is not built"
  cd "$(dirname "${BASH_SOURCE[0]}")"
  exec "$CCOE_PYTHON" -m pytest -q -p no:cacheprovider \
    ${CCOE_TEST_REPORTS:+"--junitxml=$CCOE_TEST_REPORTS/examples.xml"} "$@"
}

main "$@"
