#!/usr/bin/env bash
# Shows what can be observed: `ccoe serve` with the project's experts, some load, and beside it a
# Prometheus with the configuration of deploy/prometheus. Runs until Ctrl-C, then stops what it
# started.
#
# usage: observe.sh BIN_DIR MODEL PROMETHEUS_DIR [--experts DIR]
#
# BIN_DIR holds ccoe, PROMETHEUS_DIR the program prometheus; MODEL is a GGUF file or a Hugging Face
# folder. Ports are free ones.

set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
readonly root
readonly start_timeout_s=120
# Asked in turn: one of each expert's domain, and one that no domain claims.
readonly questions=(
  "Write an SQL query that lists the names of all customers, by name."
  "Write a Python function that reverses a list."
  "Solve 7*w - 12 = 3*w + 16 for w."
  "What is the capital of France?"
)

work=""
pids=() # of the processes that run

say() { printf '%s\n' "$*"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

# Ends what was started, by id.
clean_up() {
  local status=$? pid
  trap - EXIT INT TERM
  for pid in "${pids[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  [[ -z "$work" ]] || rm -rf "$work"
  exit "$status"
}

# await NAME PID FILE PATTERN prints the first line of a file that matches, once it is there.
await() {
  local name="$1" pid="$2" file="$3" pattern="$4" deadline=$((SECONDS + start_timeout_s))
  until grep -m 1 -- "$pattern" "$file"; do
    kill -0 "$pid" 2>/dev/null || die "$name did not start: $(tail -n 3 "$work/$name.log")"
    ((SECONDS < deadline)) || die "$name does not serve after $start_timeout_s s"
    sleep 0.1
  done
}

start_ccoe() {
  local bin="$1" model="$2" experts="$3" line
  : >"$work/ready"
  "$bin/ccoe" serve --model "$model" --experts "$experts" --listen 127.0.0.1:0 \
    --metrics-listen 127.0.0.1:0 >"$work/ready" 2>"$work/ccoe.log" &
  pids+=($!)
  line="$(await ccoe $! "$work/ready" '^listening ')"
  server="$(sed -n 's/.* listen=\([^ ]*\).*/\1/p' <<<"$line")"
  metrics="$(sed -n 's/.* metrics=\([^ ]*\).*/\1/p' <<<"$line")"
}

start_prometheus() {
  local programs="$1" line
  cp -r "$root/deploy/prometheus" "$work/prometheus"
  printf -- '- labels: {service: serve}\n  targets: ["%s"]\n' "$metrics" >"$work/prometheus/targets.yml"
  "$programs/prometheus" --config.file="$work/prometheus/prometheus.yml" \
    --storage.tsdb.path="$work/data" --web.listen-address=127.0.0.1:0 >"$work/prometheus.log" 2>&1 &
  pids+=($!)
  line="$(await prometheus $! "$work/prometheus.log" 'msg="Listening on"')"
  prometheus="$(sed -n 's/.* address=\([^ ]*\).*/\1/p' <<<"$line")"
}

# Two clients that ask one question after the other.
put_load() {
  local bin="$1" turn
  while true; do
    for turn in "${!questions[@]}"; do
      "$bin/ccoe" generate --server "$server" --max-tokens 48 "${questions[turn]}" \
        >/dev/null 2>>"$work/load.log" || sleep 1
    done
  done
}

tell() {
  say
  say "  metrics      http://$metrics/metrics"
  say "  Prometheus   http://$prometheus/graph, its alerts at /alerts"
  say "  a terminal   build/bin/ccoe top $metrics"
  say "  the server   $server: build/bin/ccoe generate --server $server \"Why is the sky blue?\""
  say
  say "Worth asking Prometheus, once it has looked for a minute:"
  say
  say "  sum by (domain) (rate(ccoe_requests_total[1m]))"
  say "  sum by (expert) (rate(ccoe_generated_tokens_total[1m]))"
  say "  histogram_quantile(0.95, sum by (le) (rate(ccoe_time_to_first_token_seconds_bucket[1m])))"
  say
  say "The dashboards in deploy/grafana are imported into Grafana as they are. docs/metrics.md lists the"
  say "metrics, docs/runbooks.md the alerts."
  say
  say "Two clients keep asking. Ctrl-C stops all of it."
}

main() {
  (($# == 3)) || [[ $# == 5 && "$4" == --experts ]] ||
    die "usage: observe.sh BIN_DIR MODEL PROMETHEUS_DIR [--experts DIR]"
  local bin="$1" model="$2" programs="$3" experts="${5:-$root/deploy/experts}" client
  [[ -x "$bin/ccoe" ]] || die "$bin/ccoe is not there: run make build"
  [[ -e "$model" ]] || die "there is no model at $model"
  [[ -x "$programs/prometheus" ]] || die "there is no prometheus in $programs"
  work="$(mktemp -d)"
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  say "Starting ccoe serve and Prometheus on this machine"
  start_ccoe "$bin" "$model" "$experts"
  start_prometheus "$programs"
  for client in 1 2; do
    put_load "$bin" &
    pids+=($!)
  done
  tell
  # Nothing of it ends by itself.
  wait -n "${pids[@]}" || true
  die "a process ended: $(tail -n 3 "$work"/*.log)"
}

main "$@"
