#!/usr/bin/env bash
# Configures a preset (once) and builds it.
#
# usage: build.sh PRESET [TARGET...]

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
  local preset="$1" dir="$root/build"
  shift
  [[ "$preset" == release ]] || dir="$root/build/$preset"
  cd "$root"
  [[ -e "$dir/build.ninja" ]] || cmake --preset "$preset"
  cmake --build "$dir" --parallel "$(parallel_jobs)" ${1:+--target "$@"}
}

main "$@"
