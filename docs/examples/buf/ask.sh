#!/usr/bin/env bash
# Lists a server's experts and streams one answer without any files of the protocol: the server's
# reflection describes it. Events and errors are printed as JSON; buf ends with 8 x the status code. An error's
# details are google.rpc's messages in base64, which shows the reason: base64 -d <<<VALUE | protoc --decode_raw
#
# pip install buf-bin
# usage: ask.sh localhost:50051 "Why is the sky blue?" [DOMAIN]

set -euo pipefail

(($# == 2 || $# == 3)) || { echo "usage: ask.sh ADDRESS PROMPT [DOMAIN]" >&2; exit 2; }
address="$1"

# call METHOD JSON: for at most 60 seconds; a call that is left is cancelled.
call() {
  timeout 60 buf curl --protocol grpc --http2-prior-knowledge -H "x-request-id: example-$$" \
    --data "$2" "http://$address/ccoe.v1.$1"
}

request="$(python3 - "${@:2}" <<'END'
import json, sys
prompt, *domain = sys.argv[1:]
print(json.dumps({"chat": {"messages": [{"role": "ROLE_USER", "content": prompt}]},
                  "sampling": {"temperature": 0}, "stop": {"maxTokens": 32},
                  **({"domain": domain[0]} if domain else {})}))
END
)"
call CatalogService/ListExperts '{}'
call GenerationService/GenerateStream "$request"
