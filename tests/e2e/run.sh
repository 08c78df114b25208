#!/usr/bin/env bash
# Runs the end-to-end tests; exits 77 (skipped, for CTest) where something they need is missing.
#
# usage: run.sh BIN_DIR [PYTEST OPTION...]
#
# CCOE_PYTHON is a Python with requirements.txt and proto/clients/python; CCOE_MODEL the path of
# SmolLM2-135M-Instruct.

set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

skip() {
  printf 'skipped: %s\n' "$*"
  exit 77
}

main() {
  export CCOE_BIN="$1"
  shift
  [[ -n "${CCOE_MODEL:-}" ]] || skip "CCOE_MODEL is not set (make test sets it)"
  [[ -n "${CCOE_PYTHON:-}" ]] || skip "CCOE_PYTHON is not set (make test sets it)"
  local program
  for program in ccoe ccoe-router ccoe-backbone ccoe-expert ccoe-gateway; do
    [[ -x "$CCOE_BIN/$program" ]] || skip "$CCOE_BIN/$program is not built"
  done
  cd "$here"
  exec "$CCOE_PYTHON" -m pytest -q -p no:cacheprovider \
    ${CCOE_TEST_REPORTS:+"--junitxml=$CCOE_TEST_REPORTS/e2e.xml"} "$@"
}

main "$@"
