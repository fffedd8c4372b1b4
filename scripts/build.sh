#!/usr/bin/env bash
# build.sh: the four static binaries, into bin/.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
observe=github.com/parley-chat/parley/internal/observe
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-X $observe.Version=$(version) -X $observe.Commit=$(commit)" \
	-o bin/ ./cmd/api ./cmd/presence-watcher ./cmd/receipt-worker ./cmd/dispatcher
