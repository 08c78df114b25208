#!/usr/bin/env bash
# Shows the project at work: starts a router, a backbone and expert processes on free ports of this
# machine, asks a question in every domain, sets the base model's answers beside the expert's, and
# stops what it started.
#
# usage: demo.sh BIN_DIR MODEL [--experts DIR]
#        demo.sh BIN_DIR --model MODEL [--experts DIR]
#
# BIN_DIR holds the programs; MODEL is a GGUF file or a Hugging Face folder. An expert package that
# does not belong to the model is left out, with the reason.

set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)"
readonly root
readonly start_timeout_s=120
# No rule claims it: what the prefill makes of it decides.
readonly plain_question="Which captains have more than three boats in the harbour? \
The list is boats(id, name, captain, harbour)."
# Needs two experts: sql's and code's.
readonly two_questions="Given the table boats(id, name, length_m, harbour), write a SQL query for the \
names of the boats longer than 12 metres, then write a Python function that reverses a list of names."
readonly general_question="What is the capital of France, and what is it known for?"

bin="" model="" experts="$root/deploy/experts" work=""
pids=()     # of the processes that run
names=()    # their names, by the same index
packages=() # expert packages that belong to the model
if [[ -t 1 && -z "${NO_COLOR:-}" ]]; then
  bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'
else
  bold="" dim="" plain=""
fi

say() { printf '%s\n' "$*"; }
title() { printf '\n%s== %s%s\n\n' "$bold" "$*" "$plain"; }
die() {
  printf 'error: %s\n' "$*" >&2
  exit 1
}

parse_arguments() {
  (($# >= 2)) || die "usage: demo.sh BIN_DIR MODEL [--experts DIR]"
  bin="$1"
  shift
  while (($# > 0)); do
    case "$1" in
      --model) model="${2:?--model needs a path}" && shift 2 ;;
      --experts) experts="${2:?--experts needs a folder}" && shift 2 ;;
      *) model="$1" && shift ;;
    esac
  done
  local program
  for program in ccoe ccoe-router ccoe-backbone ccoe-expert; do
    [[ -x "$bin/$program" ]] || die "$bin/$program is not there: run make build"
  done
  [[ -e "$model" ]] || die "there is no model at $model"
}

# Ends what was started, by id; says what did not end well.
stop_all() {
  local index status=0
  for index in "${!pids[@]}"; do
    kill -TERM "${pids[index]}" 2>/dev/null || true
  done
  for index in "${!pids[@]}"; do
    wait "${pids[index]}" || {
      say "${names[index]} ended with code $?; its log ends with:" >&2
      tail -n 5 "$work/${names[index]}.log" >&2
      status=1
    }
  done
  pids=()
  return "$status"
}

clean_up() {
  local status=$?
  trap - EXIT INT TERM
  ((${#pids[@]} == 0)) || stop_all || true
  [[ -z "$work" ]] || rm -rf "$work"
  exit "$status"
}

# start NAME PROGRAM ARGUMENT...: starts a program and waits until it serves. Its address is then in
# `address`, that of its metrics in `metrics`.
start() {
  local name="$1" program="$2" log="$work/$1.log" ready="$work/$1.ready" pid line deadline
  shift 2
  : >"$ready"  # it is read before the process has opened it
  "$bin/$program" "$@" --listen 127.0.0.1:0 --metrics-listen 127.0.0.1:0 >"$ready" 2>"$log" &
  pid=$!
  pids+=("$pid")
  names+=("$name")
  deadline=$((SECONDS + start_timeout_s))
  until line="$(grep -m 1 '^listening ' "$ready")"; do
    kill -0 "$pid" 2>/dev/null || die "$name did not start: $(tail -n 3 "$log")"
    ((SECONDS < deadline)) || die "$name does not serve after $start_timeout_s s: $(tail -n 3 "$log")"
    sleep 0.1
  done
  address="$(sed -n 's/.* listen=\([^ ]*\).*/\1/p' <<<"$line")"
  metrics="$(sed -n 's/.* metrics=\([^ ]*\).*/\1/p' <<<"$line")"
  printf '  %-16s process %-8s %s\n' "$name" "$pid" "$address"
}

# value_of FIELD FILE: the number or text of a field in one line of JSON that ccoe printed.
value_of() { sed -n "s/.*\"$1\":\"\{0,1\}\([^,\"}]*\).*/\1/p" "$2" | head -n 1; }

choose_packages() {
  local folder
  for folder in "$experts"/*/; do
    [[ -e "$folder/expert.json" ]] || continue
    folder="${folder%/}"
    if "$bin/ccoe" expert inspect --json "$folder" --model "$model" \
      >"$work/inspect.json" 2>"$work/inspect.err"; then
      packages+=("$folder")
      cp "$work/inspect.json" "$work/package-$(basename "$folder").json"
    else
      say "left out: $(sed 's/^ccoe: error: //' "$work/inspect.err")"
    fi
  done
}

# The layer at which the backbone ends: where the deepest expert attaches.
split_layer() {
  local folder depth deepest=0
  for folder in "${packages[@]}"; do
    depth="$(value_of attach_depth "$work/package-$(basename "$folder").json")"
    ((deepest >= depth)) || deepest="$depth"
  done
  if ((deepest == 0)); then
    "$bin/ccoe" model inspect --json "$model" >"$work/model.json" || die "the model was refused"
    deepest=$(($(value_of layers "$work/model.json") * 6 / 10))
  fi
  printf '%s\n' "$deepest"
}

start_processes() {
  local layers peers=() folder
  layers="$(split_layer)"
  for folder in "${packages[@]}"; do
    start "expert-$(basename "$folder")" ccoe-expert --model "$model" --package "$folder"
    peers+=(--peer "$address")
  done
  start expert-general ccoe-expert --model "$model" --layer-begin "$layers"
  peers+=(--peer "$address")
  start backbone ccoe-backbone --model "$model" --layers "$layers" "${peers[@]}"
  backbone_metrics="$metrics"
  start router ccoe-router --backbone "$address"
  router="$address"
  local deadline=$((SECONDS + start_timeout_s))
  until "$bin/ccoe" experts --server "$router" --json >"$work/experts.json" 2>/dev/null &&
    ! grep -q '"state":"unavailable"' "$work/experts.json"; do
    ((SECONDS < deadline)) || die "not all experts are ready after $start_timeout_s s"
    sleep 0.1
  done
  say
  say "The backbone computes layers 0..$((layers - 1)); an expert process its expert's layers above."
}

# Prints the prompts of a package's demo_prompts.json, one per line, as JSON strings without quotes.
demo_prompts() {
  local file="$1/demo_prompts.json"
  [[ -e "$file" ]] || return 0
  sed -n 's/^ *"prompt": "\(.*\)",\{0,1\}$/\1/p' "$file"
}

# The text of a JSON string's inside.
unescape() { printf '%b' "${1//\\\//\/}"; }

ask() {
  local prompt="$1"
  say "$bold$prompt$plain"
  say "$dim$("$bin/ccoe" route --server "$router" "$prompt")$plain"
  say
  "$bin/ccoe" generate --server "$router" --temperature 0 --max-tokens 64 "$prompt" 2>/dev/null ||
    die "no answer: $("$bin/ccoe" generate --server "$router" --max-tokens 1 "$prompt" 2>&1)"
  say
}

ask_every_domain() {
  local folder line
  for folder in "${packages[@]}"; do
    line="$(demo_prompts "$folder" | head -n 1)"
    [[ -z "$line" ]] || ask "$(unescape "$line")"
  done
  ((${#packages[@]} == 0)) || ask "$plain_question"
  ask "$general_question"
}

has_domain() { grep -q "\"domain\":\"$1\"" "$work"/package-*.json; }

# One prompt, split into steps; each step's expert and instruction stand before its answer.
ask_in_steps() {
  local prompt="$1" line inside='\(\([^"\\]\|\\.\)*\)'
  say "$bold$prompt$plain"
  "$bin/ccoe" generate --server "$router" --plan --json --temperature 0 --max-tokens 64 "$prompt" \
    2>"$work/steps.err" | while IFS= read -r line; do
    case "$line" in
      '{"event":"step_started"'*)
        printf '\n%sstep %s, %s: %s%s\n' "$dim" \
          "$(sed -n 's/.*"step":\([0-9]*\).*/\1/p' <<<"$line")" \
          "$(sed -n 's/.*"domain":"\([^"]*\)".*/\1/p' <<<"$line")" \
          "$(unescape "$(sed -n "s/.*\"instruction\":\"$inside\".*/\1/p" <<<"$line")")" "$plain"
        ;;
      '{"event":"delta"'*)
        unescape "$(sed -n "s/^{\"event\":\"delta\",\"text\":\"$inside\".*/\1/p" <<<"$line")"
        ;;
    esac
  done || die "no answer: $(cat "$work/steps.err")"
  printf '\n\n'
}

# answer DOMAIN PROMPT FILE: the greedy answer of a domain's expert, folded to a column.
answer() {
  "$bin/ccoe" generate --server "$router" --domain "$1" --temperature 0 --max-tokens 48 "$2" \
    2>"$work/answer.err" | fold -s -w 46 >"$3" || die "no answer: $(cat "$work/answer.err")"
}

compare() {
  local folder="$1" domain line prompt
  domain="$(value_of domain "$work/package-$(basename "$folder").json")"
  title "The same greedy prompts: the base model, and the $domain expert"
  while IFS= read -r line; do
    prompt="$(unescape "$line")"
    say "$dim$prompt$plain"
    answer general "$prompt" "$work/base.txt"
    answer "$domain" "$prompt" "$work/expert.txt"
    printf '\n  %s%-48s %s%s\n' "$bold" "base" "$domain expert" "$plain"
    paste -d $'\x01' "$work/base.txt" "$work/expert.txt" |
      while IFS=$'\x01' read -r left right; do printf '  %-48s %s\n' "$left" "$right"; done
    say
  done < <(demo_prompts "$folder")
}

# What the backbone sent to the experts, as its Prometheus endpoint tells.
show_traffic() {
  local host="${backbone_metrics%:*}" port="${backbone_metrics##*:}" bytes
  exec 3<>"/dev/tcp/$host/$port"
  printf 'GET /metrics HTTP/1.0\r\nHost: %s\r\n\r\n' "$host" >&3
  bytes="$(sed -n 's/^ccoe_hidden_state_bytes_total{direction="sent"} //p' <&3 | tr -d '\r')"
  exec 3>&-
  [[ -z "$bytes" ]] || awk -v bytes="$bytes" \
    'BEGIN { printf "The backbone sent %.1f MB of hidden states to the experts.\n", bytes / 1e6 }'
}

main() {
  parse_arguments "$@"
  work="$(mktemp -d)"
  trap clean_up EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM
  title "Starting router, backbone and experts on this machine"
  say "model: $model"
  choose_packages
  start_processes
  title "One question per domain: the router finds the expert, the tokens stream back"
  ask_every_domain
  if has_domain sql && has_domain code; then
    title "One prompt that needs two experts: each takes its step, in one shared context"
    ask_in_steps "$two_questions"
  fi
  local folder
  for folder in "${packages[@]}"; do
    [[ -z "$(demo_prompts "$folder")" ]] || compare "$folder"
  done
  show_traffic
  title "Stopping"
  stop_all || die "a process did not end well"
  say "All processes ended with code 0. Now yours:"
  say
  say "  $bin/ccoe chat --model $model --experts $experts"
}

main "$@"
