#!/usr/bin/env bash
# Runs the CTest tests of a built preset. Its last line is "N passed, N failed, N skipped".
#
# usage: test.sh PRESET [CTEST OPTION...]
#
# The tests find the real model in CCOE_MODEL and the Python of the end-to-end tests in CCOE_PYTHON;
# both are set here for the preset release.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
  local preset="$1" dir="$root/build" report failed=0
  shift
  if [[ "$preset" == release ]]; then
    local venv requirements="$root/tests/e2e/requirements.txt"
    CCOE_MODEL="${CCOE_MODEL:-$("$root/deploy/dev/fetch-model.sh")}"
    export CCOE_MODEL
    if [[ -e "$requirements" ]]; then
      venv="$(ensure_venv e2e "$requirements")"
      export CCOE_PYTHON="$venv/bin/python"
    fi
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
  export PYTEST_ADDOPTS="--junitxml=$dir/test-reports/e2e.xml"
  # Clang 14's thread sanitizer cannot map its shadow under strong address randomisation.
  local run=()
  [[ "$preset" != tsan ]] || run=(setarch "$(uname -m)" -R)
  "${run[@]}" ctest --test-dir "$dir" --output-on-failure --no-tests=error --timeout 600 \
    --parallel "$(parallel_jobs)" --output-junit "$report" "$@" || failed=1
  "$root/deploy/dev/test_summary.py" "$report" "$dir/test-reports" || failed=1
  return "$failed"
}

main "$@"
