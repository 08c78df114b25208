#!/usr/bin/env bash
# Builds ask.go as OUT/ask, without modules: with the libraries that Debian has in its GOPATH.
#
# apt-get install protobuf-compiler golang-go protoc-gen-go-1-5 golang-github-golang-protobuf-1-5-dev
#   golang-google-grpc-dev
# usage: build.sh OUT; then OUT/ask localhost:50051 "Why is the sky blue?" [DOMAIN]

set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
proto="$(cd "$here/../../../proto" && pwd)"
mkdir -p "$1/src"
out="$(cd "$1" && pwd)"

protoc -I "$proto" --go_out="plugins=grpc:$out/src" "$proto"/ccoe/v1/*.proto
GO111MODULE=off GOPATH="$out:/usr/share/gocode" GOFLAGS='' go build -o "$out/ask" "$here/ask.go"
