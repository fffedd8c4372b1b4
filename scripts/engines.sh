#!/usr/bin/env bash
# engines.sh: the process tests on each engine that Parley may meet besides plain Redis and Postgres. ENGINES names some of
# them. It runs under with-services.sh. TESTFLAGS goes to go test.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
. scripts/packages.sh
need_packages pgbouncer
PARLEY_TEST_BIN_DIR=$(mktemp -d)
export PARLEY_TEST_BIN_DIR
go build -race -tags faultpoints -buildvcs=false -o "$PARLEY_TEST_BIN_DIR/" ./cmd/...
failed=()
engines=${ENGINES:-redis-cluster redis-sentinel pgbouncer valkey}
if ! have valkey-server; then # in Debian since 13, and in the backports of 12
	case " $engines " in *' valkey '*) say "SKIPPED: there is no valkey-server" ;; esac
	engines=${engines/valkey/}
fi
for engine in $engines; do
	say "== $engine"
	# shellcheck disable=SC2086 # several flags
	PARLEY_TEST_ENGINE=$engine go test -race -count 1 -timeout 30m ${TESTFLAGS:-} ./test || failed+=("$engine")
done
[ ${#failed[@]} = 0 ] || die "failed on: ${failed[*]}"
