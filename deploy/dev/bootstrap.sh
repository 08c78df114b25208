#!/usr/bin/env bash
# Checks that this machine can build and run the project, and installs the Debian packages that are
# missing, after asking once.
#
# usage: bootstrap.sh GROUP...     GROUP: build, test, lint, bench
#
# YES=1 answers the question; without a terminal CI=true does the same.

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly build_packages=(
  build-essential ccache cmake git libabsl-dev libboost-dev libcli11-dev libgmock-dev libgrpc++-dev libgtest-dev
  libpcre2-dev libprotobuf-dev libssl-dev libutf8proc-dev make mold ninja-build nlohmann-json3-dev pkg-config
  prometheus-cpp-dev protobuf-compiler protobuf-compiler-grpc python3-venv zlib1g-dev
)
# What the examples in docs/examples are built with, in the languages that the build itself is not,
# and the browser that shows the playground.
readonly test_packages=(
  chromium golang-github-golang-protobuf-1-5-dev golang-go golang-google-grpc-dev libgeronimo-annotation-1.3-spec-java
  libgrpc-java libguava-java libnetty-java libperfmark-java libprotobuf-java openjdk-17-jdk-headless
  protobuf-compiler-grpc-java-plugin protoc-gen-go-1-5 ruby-grpc
)
readonly lint_packages=(clang clang-format clang-tidy libclang-rt-14-dev)
readonly bench_packages=(libbenchmark-dev libopenblas-dev)

check_machine() {
  local id version mem_kib
  id="$(. /etc/os-release 2>/dev/null && printf '%s' "${ID:-unknown}")"
  version="$(. /etc/os-release 2>/dev/null && printf '%s' "${VERSION_ID:-}")"
  [[ "$id $version" == "debian 12" ]] ||
    die "this is ${id:-unknown} ${version:-}; the build is made for Debian 12 (a container or a chroot of it will do)"
  [[ "$(uname -m)" == x86_64 ]] || die "this is $(uname -m); the kernels are made for x86-64"
  grep -qw avx2 /proc/cpuinfo || die "this processor has no AVX2, which the arithmetic kernels need"
  # A machine sold as 4 GiB shows a little less.
  mem_kib="$(awk '/^MemTotal:/ { print $2 }' /proc/meminfo)"
  ((mem_kib >= 3700000)) ||
    die "this machine has $((mem_kib / 1024)) MiB of memory; building and running need 4 GiB"
}

# Prints those of the given packages that are not installed.
missing_packages() {
  local installed
  installed="$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "$@" 2>/dev/null |
    awk '$2 == "installed" { print $1 }')" || true
  comm -13 <(sort -u <<<"$installed") <(printf '%s\n' "$@" | sort -u)
}

confirm() {
  [[ "${YES:-}" == 1 ]] && return
  if [[ -t 0 ]]; then
    local answer
    read -r -p "Install them now? [Y/n] " answer
    [[ "$answer" =~ ^([yY].*)?$ ]] || die "nothing was installed; install these packages, then run make again"
  elif [[ "${CI:-}" != true ]]; then
    die "no terminal to ask on: run make again with YES=1 to install these packages"
  fi
}

install_packages() {
  local as_root=()
  if (($(id -u) != 0)); then
    command -v sudo >/dev/null || die "no sudo here: as root, run apt-get install $*"
    as_root=(sudo)
  fi
  say "Installing with apt-get ..."
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q)
  "${apt[@]}" update >&2 || die "apt-get update failed: check the network and /etc/apt"
  "${apt[@]}" install -y --no-install-recommends "$@" >&2 ||
    die "apt-get install failed; what it printed above says why"
}

main() {
  local wanted=() group
  for group in "$@"; do
    case "$group" in
      build) wanted+=("${build_packages[@]}") ;;
      test) wanted+=("${test_packages[@]}") ;;
      lint) wanted+=("${lint_packages[@]}") ;;
      bench) wanted+=("${bench_packages[@]}") ;;
      *) die "unknown group of packages '$group' (build, test, lint, bench)" ;;
    esac
  done
  check_machine
  local missing
  mapfile -t missing < <(missing_packages "${wanted[@]}")
  ((${#missing[@]} > 0)) || return 0
  say "These Debian packages are missing and would be installed:"
  printf '%s\n' "${missing[*]}" | fold -s -w 96 | sed 's/^/  /' >&2
  confirm
  install_packages "${missing[@]}"
}

main "$@"
