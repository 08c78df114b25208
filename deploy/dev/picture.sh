#!/usr/bin/env bash
# Draws docs/request.svg from docs/request.dot. Needs the Debian package graphviz.
#
# usage: picture.sh

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
command -v dot >/dev/null || die "dot is missing: install the Debian package graphviz"
dot -Tsvg "$root/docs/request.dot" -o "$root/docs/request.svg"
