#!/usr/bin/env bash
# Runs the CTest tests of a built preset. Its last line is "N passed, N failed, N skipped".
#
# usage: test.sh PRESET [CTEST OPTION...]
#
# The tests find the real model in CCOE_MODEL, in CCOE_PYTHON the Python that runs the end-to-end
# tests and those of the Python client, and in CCOE_PROMETHEUS the folder of Prometheus's programs; all
# are set here for the preset release.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# install_client DIR puts the Python client of this tree into DIR: a tree's own, for the environment
# of CCOE_PYTHON is shared by all trees.
install_client() {
  rm -rf "$1"
  "$CCOE_PYTHON" -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
    --target "$1" "$root/proto/clients/python" >&2 || die "cannot install proto/clients/python"
}

main() {
  local preset="$1" dir="$root/build" report failed=0
  shift
  if [[ "$preset" == release ]]; then
    local venv
    CCOE_MODEL="${CCOE_MODEL:-$("$root/deploy/dev/fetch-model.sh")}"
    export CCOE_MODEL
    venv="$(ensure_venv e2e "$root/tests/e2e/requirements.txt")"
    export CCOE_PYTHON="$venv/bin/python" PYTHONPATH="$dir/python"
    install_client "$dir/python"
    CCOE_PROMETHEUS="$("$root/deploy/dev/fetch-prometheus.sh")" ||
      say "without Prometheus the tests of what is made for it are skipped"
    export CCOE_PROMETHEUS
  else
    dir="$root/build/$preset"
  fi
  export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}"
  export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1:halt_on_error=1}"
  export TSAN_OPTIONS="${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}"
  report="$dir/test-reports/ctest.xml"
  rm -rf "$dir/test-reports"
  mkdir -p "$dir/test-reports"
  export GTEST_OUTPUT="xml:$dir/test-reports/"
  export CCOE_TEST_REPORTS="$dir/test-reports"
  # Clang 14's thread sanitizer cannot map its shadow under strong address randomisation.
  local run=()
  [[ "$preset" != tsan ]] || run=(setarch "$(uname -m)" -R)
  "${run[@]}" ctest --test-dir "$dir" --output-on-failure --no-tests=error --timeout 600 \
    --parallel "$(parallel_jobs)" --output-junit "$report" "$@" || failed=1
  "$root/deploy/dev/test_summary.py" "$report" "$dir/test-reports" || failed=1
  return "$failed"
}

main "$@"
