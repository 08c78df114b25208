#!/usr/bin/env bash
# Makes the stubs that ask.rb needs in the folder OUT.
#
# apt-get install protobuf-compiler protobuf-compiler-grpc ruby-grpc
# usage: build.sh OUT; then ruby -I OUT ask.rb localhost:50051 "Why is the sky blue?" [DOMAIN]

set -euo pipefail

proto="$(cd "$(dirname "${BASH_SOURCE[0]}")/../../../proto" && pwd)"
mkdir -p "$1"

protoc -I "$proto" --plugin=protoc-gen-grpc="$(command -v grpc_ruby_plugin)" \
  --ruby_out="$1" --grpc_out="$1" "$proto"/ccoe/v1/*.proto
