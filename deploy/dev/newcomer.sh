#!/usr/bin/env bash
# Plays the newcomer: makes a bare Debian 12 root, clones the checked-out commit into it, and runs
# `make demo` and `make test` there, twice the demo, for the second run must be quick. Needs root and
# the package debootstrap. Only what a network behind a proxy needs is copied from this machine.
#
# usage: newcomer.sh DIR [MAKE TARGET...]     DIR: an empty folder; the root is kept in DIR/root
#
# MIRROR is the Debian mirror; the one that this machine's apt uses unless set.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mirror() {
  local uris
  # shellcheck disable=SC2016  # apt's own variables
  uris="$(apt-get indextargets --format '$(SITE) $(CODENAME)' 'Created-By: Packages' |
    awk '$2 == "bookworm" { print $1; exit }')"
  [[ -n "$uris" ]] || die "set MIRROR to a Debian mirror"
  printf '%s\n' "$uris"
}

make_root() {
  local dir="$1"
  [[ -e "$dir/root/etc/debian_version" ]] ||
    debootstrap --variant=minbase bookworm "$dir/root" "${MIRROR:-$(mirror)}" >&2
  local file
  for file in /etc/resolv.conf /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    [[ ! -e "$file" ]] || install -D -m 644 "$file" "$dir/root$file"
  done
  # How apt reaches its mirrors: proxies, and clocks that are off.
  apt-config dump --format '%F "%v";%n' Acquire | grep -E '^Acquire::(http|https|Check)' \
    >"$dir/root/etc/apt/apt.conf.d/99host" || true
}

# in_root DIR COMMAND runs a command line in the root, with an environment of its own.
in_root() {
  local dir="$1" passed
  mapfile -t passed < <(env | grep -E '^(PIP_[A-Z_]+|https?_proxy|no_proxy)=')
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --mount --pid --fork --mount-proc="$dir/root/proc" \
    bash -c 'mount --rbind /dev "$0/dev" && exec chroot "$@"' "$dir/root" "$dir/root" \
    env -i HOME=/root PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 CI=true "${passed[@]}" \
    bash -c "$2" </dev/null
}

main() {
  local dir="$1" targets=("${@:2}") target start
  ((${#targets[@]} > 0)) || targets=(demo demo test)
  mkdir -p "$dir"
  dir="$(cd "$dir" && pwd)"
  make_root "$dir"
  # A newcomer has git and make; everything else is the project's to ask for.
  in_root "$dir" "apt-get -q update && apt-get -q install -y --no-install-recommends git make" >&2
  rm -rf "$dir/root/clone" "$dir/root/source.bundle"
  git -C "$root" bundle create -q "$dir/root/source.bundle" HEAD
  in_root "$dir" "git -c advice.detachedHead=false clone -q /source.bundle /clone"
  for target in "${targets[@]}"; do
    start=$SECONDS
    in_root "$dir" "make -C /clone --no-print-directory $target" ||
      die "make $target failed after $((SECONDS - start)) s"
    say "newcomer: make $target: ok, $((SECONDS - start)) s"
  done
}

main "$@"
