#!/usr/bin/env bash
# lint.sh: golangci-lint at the version that is pinned here. Building it takes minutes, once per machine.
# lint.sh --quick runs golangci-lint if it was built, and otherwise staticcheck, which takes less than a minute.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

version=v2.15.0
folder=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/parley/golangci-lint-$version

# staticcheck is a tool of a module of its own, so that it adds nothing to Parley's. Go keeps what it built, and staticcheck what it found.
staticcheck() {
	if ! go mod download -modfile=scripts/lint/go.mod 2>/dev/null; then
		[ -z "${CI:-}" ] || die "staticcheck cannot be downloaded"
		say "   skipped: golangci-lint is not built, and staticcheck cannot be downloaded"
		return
	fi
	go tool -modfile=scripts/lint/go.mod staticcheck ./...
}

if [ "${1:-}" = --quick ]; then
	shift
	if [ ! -x "$folder/golangci-lint" ]; then
		say "   staticcheck (make lint builds golangci-lint, which checks more)"
		staticcheck
		exit
	fi
fi
if [ ! -x "$folder/golangci-lint" ]; then
	say "Building golangci-lint $version"
	GOBIN=$folder GOFLAGS="" go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$version"
fi
# The race detector's builds are those that the tests leave in the cache.
GOFLAGS="${GOFLAGS:-} -race" exec "$folder/golangci-lint" run "$@"
