#!/usr/bin/env bash
# Trains the experts whose packages are not in deploy/experts in the version that their domain file
# says. Takes hours on a CPU; what was interrupted goes on in the next run. See training/README.md.
#
# usage: experts.sh DATA [NAME...]
#
# DATA holds a folder with train.jsonl and dev.jsonl for each domain; NAMEs (training/domains) are all
# unless some are named. THREADS: PyTorch's, one per core unless set.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

main() {
  local data="${1:-}" venv name domains=()
  [[ -d "$data" ]] || die "say where the domains' data is: make experts DATA=FOLDER"
  shift
  for name in "$@"; do domains+=("$root/training/domains/$name.json"); done
  ((${#domains[@]} > 0)) || domains=("$root"/training/domains/*.json)
  data="$(realpath "$data")"
  venv="$(ensure_venv train "$root/training/requirements.txt")"
  cd "$root/training"
  "$venv/bin/python" -m ccoe_training --threads "${THREADS:-$(nproc)}" experts \
    --domains "${domains[@]}" --model "$("$root/deploy/dev/fetch-model.sh")" --data "$data" \
    --work "${XDG_CACHE_HOME:-$HOME/.cache}/ccoe/training" --experts "$root/deploy/experts" \
    --ccoe "$root/build/bin/ccoe"
}

main "$@"
