# shellcheck shell=bash
# Helpers that the scripts of this folder share; sourced, not run.

set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
# shellcheck disable=SC2034  # used by the scripts
readonly root  # the repository

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

# The folder outside the tree that keeps what is fetched: the model and the Python environments.
cache_dir() {
  local home="${HOME:-$(getent passwd "$(id -u)" | cut -d: -f6)}"
  local dir="${XDG_CACHE_HOME:-$home/.cache}/ccoe"
  mkdir -p "$dir" || die "cannot create the cache folder $dir: set XDG_CACHE_HOME to one that can be written"
  printf '%s\n' "$dir"
}

# Parallel compilations: one per core, and no more than memory can hold (gRPC's headers take 1.5 GB).
parallel_jobs() {
  local cores gib
  cores="$(nproc)"
  gib="$(awk '/^MemAvailable:/ { print int($2 / 1048576) }' /proc/meminfo)"
  local fit=$((gib * 2 / 3))
  ((fit >= 1)) || fit=1
  printf '%s\n' "${JOBS:-$((cores < fit ? cores : fit))}"
}

# ensure_venv NAME REQUIREMENTS prints the folder of a Python environment that holds exactly those
# requirements; it is made again only when they, or Python, change.
ensure_venv() {
  local name="$1" requirements="$2" cache dir stamp
  cache="$(cache_dir)"
  dir="$cache/venv-$name"
  stamp="$( (/usr/bin/python3 --version; cat "$requirements") | sha256sum | cut -d' ' -f1)"
  (
    flock 9
    if [[ "$(cat "$dir/stamp" 2>/dev/null)" != "$stamp" ]]; then
      say "Making the Python environment $dir"
      rm -rf "$dir"
      /usr/bin/python3 -m venv "$dir" ||
        die "cannot make a Python environment in $dir (is python3-venv installed, is the disk full?)"
      [[ ! -s "$requirements" ]] ||
        "$dir/bin/python" -m pip install --quiet --disable-pip-version-check -r "$requirements" >&2 ||
        die "cannot install $requirements with pip: check the network and the disk ($(free_mib "$cache") MiB free)"
      printf '%s\n' "$stamp" >"$dir/stamp"
    fi
  ) 9>"$dir.lock" || return 1
  printf '%s\n' "$dir"
}

free_mib() { df -Pm "$1" | awk 'NR == 2 { print $4 }'; }
