#!/usr/bin/env bash
# Prints the folder of the programs prometheus and promtool: where they are installed, or else where
# Debian's package of them lies unpacked in the cache folder. It is not installed, for that would
# start a service.
#
# usage: fetch-prometheus.sh

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

fetch() {
  local dir="$1" work
  work="$(mktemp -d -p "$(dirname "$dir")")"
  trap 'rm -rf "$work"' RETURN
  (cd "$work" && apt-get -q -o APT::Sandbox::User=root download prometheus >&2) ||
    die "apt-get cannot fetch the package prometheus: run apt-get update, check the network"
  dpkg-deb -x "$work"/prometheus_*.deb "$work/root"
  rm -rf "$dir"
  mv "$work/root" "$dir"
}

main() {
  local installed dir
  installed="$(command -v prometheus)" || installed=""
  if [[ -n "$installed" ]] && command -v promtool >/dev/null; then
    dirname "$installed"
    return
  fi
  dir="$(cache_dir)/prometheus"
  (
    flock 9
    [[ -x "$dir/usr/bin/promtool" ]] || fetch "$dir"
  ) 9>"$dir.lock" || return 1
  printf '%s\n' "$dir/usr/bin"
}

main "$@"
