#!/usr/bin/env bash
# Runs the linters, all of them even when one fails, and says how long each took.
#
# usage: lint.sh

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"

check_format() { git ls-files '*.cc' '*.h' | xargs clang-format --dry-run --Werror; }

check_protos() {
  local buf
  buf="$(ensure_venv lint deploy/dev/lint-requirements.txt)/bin/buf"
  "$buf" lint proto && "$buf" breaking proto --against proto/image.binpb
}

# Clang-tidy reads the compile commands of the preset tsan: clang's own, and without gRPC, whose
# headers would take most of the time.
check_tidy() {
  cmake --preset tsan >/dev/null || return 1
  git ls-files 'common/*.cc' ':!common/rpc' |
    xargs -P "$(parallel_jobs)" -n 4 clang-tidy -p build/tsan --quiet 2>&1 |
    { grep -v -E '^[0-9]+ warnings? generated\.$|^Suppressed|^Use -header-filter' || true; }
}

failed=()
# step NAME COMMAND... runs a linter and reports it.
step() {
  local name="$1" start=$SECONDS
  shift
  if "$@"; then
    printf 'lint: %-22s ok      %4d s\n' "$name" $((SECONDS - start))
  else
    printf 'lint: %-22s FAILED  %4d s\n' "$name" $((SECONDS - start))
    failed+=("$name")
  fi
}

step "clang-format" check_format
step "direction of includes" deploy/dev/check_includes.py
step "links of the documents" deploy/dev/check_links.py
step "buf lint and breaking" check_protos
step "clang-tidy" check_tidy

((${#failed[@]} == 0)) || die "these linters failed: ${failed[*]}"
