#!/usr/bin/env bash
# Builds what the benchmarks need, fetches the model, and measures: speed beside llama.cpp, the hop
# beside bare gRPC, the memory of each process. What follows is passed on (run.py --help teaches it).
#
# usage: run.sh [--model MODEL.gguf] [--quick] [--only speed|hop|memory] [--json FILE] ...

source "$(dirname "${BASH_SOURCE[0]}")/../../deploy/dev/lib.sh"

build() {
  cd "$root"
  cmake --preset release -DCCOE_BUILD_BENCH=ON >&2
  cmake --build build --parallel "$(parallel_jobs)" \
    --target ccoe_bench ccoe_hop_bench ccoe-router ccoe-backbone ccoe-expert >&2
}

main() {
  local argument model=()
  for argument in "$@"; do
    [[ "$argument" != -h && "$argument" != --help ]] || exec python3 tests/bench/run.py --help
    [[ "$argument" != --model* ]] || model=(given)
  done
  build
  ((${#model[@]} > 0)) || set -- --model "$(deploy/dev/fetch-model.sh)" "$@"
  exec python3 tests/bench/run.py --jobs "$(parallel_jobs)" "$@"
}

cd "$root"
main "$@"
