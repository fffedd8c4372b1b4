#!/usr/bin/env bash
# bench.sh: the benchmarks whose names match BENCH, all by default, and their figures beside the goals. It runs under
# with-services.sh --durable. TESTFLAGS goes to go test.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck disable=SC2086 # several flags
go test -run '^$' -bench "${BENCH:-.}" -timeout 2h ${TESTFLAGS:-} ./bench/... | go run ./bench/gates
