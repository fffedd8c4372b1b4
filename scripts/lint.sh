#!/usr/bin/env bash
# lint.sh: golangci-lint at the version that is pinned here. Building it takes minutes, once a machine.
# lint.sh --path prints where it is kept.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

version=v2.15.0
folder=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/parley/golangci-lint-$version

if [ "${1:-}" = --path ]; then
	echo "$folder/golangci-lint"
	exit
fi
if [ ! -x "$folder/golangci-lint" ]; then
	say "Building golangci-lint $version"
	GOBIN=$folder GOFLAGS="" go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
fi
# The race detector's builds are those that the tests leave in the cache.
GOFLAGS="${GOFLAGS:-} -race" exec "$folder/golangci-lint" run "$@"
