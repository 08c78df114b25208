#!/usr/bin/env bash
# Brings proto/image.binpb up to date: the public protocol as clients know it. Refuses a protocol that
# would break them.
#
# usage: proto-image.sh

source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
cd "$root"
buf="$(ensure_venv lint deploy/dev/lint-requirements.txt)/bin/buf"
"$buf" breaking proto --against proto/image.binpb
"$buf" build proto --path proto/ccoe/v1 --exclude-source-info -o proto/image.binpb
