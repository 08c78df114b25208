#!/usr/bin/env bash
# Builds Ask.java into OUT/classes; OUT/classpath names them and the libraries of Debian's /usr/share/java.
#
# apt-get install protobuf-compiler protobuf-compiler-grpc-java-plugin openjdk-17-jdk-headless libgrpc-java
#   libprotobuf-java libnetty-java libguava-java libperfmark-java libgeronimo-annotation-1.3-spec-java
# usage: build.sh OUT; then java @OUT/classpath Ask localhost:50051 "Why is the sky blue?" [DOMAIN]

set -euo pipefail

here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
proto="$(cd "$here/../../../proto" && pwd)"
libraries=(
  grpc-{api,context,core,netty,protobuf,protobuf-lite,stub} geronimo-annotation-1.3-spec guava
  netty-{buffer,codec,codec-http,codec-http2,common,handler,handler-proxy,resolver,transport} perfmark-api protobuf
)
mkdir -p "$1/gen" "$1/classes"
cd "$1"

protoc -I "$proto" --plugin=protoc-gen-grpc="$(command -v grpc_java_plugin)" --java_out=gen --grpc_out=gen \
  "$proto"/ccoe/v1/*.proto "$proto"/google/rpc/*.proto
{ printf -- '-cp %s/classes' "$PWD"; printf ':/usr/share/java/%s.jar' "${libraries[@]}"; } >classpath
find gen -name '*.java' >sources
javac -nowarn -d classes @classpath @sources "$here/Ask.java"
