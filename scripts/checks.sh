#!/usr/bin/env bash
# checks.sh [PACKAGE...]: what has to hold before a change lands. It runs under with-services.sh. Everything is built once,
# with the race detector. TESTFLAGS goes to go test.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

step() {
	local title=$1 begun=$SECONDS
	shift
	say "== $title"
	"$@"
	say "   $((SECONDS - begun)) s"
}

format() {
	local bad
	bad=$(gofmt -l .)
	[ -z "$bad" ] || die "gofmt would change these; make fmt does:
$bad"
}

lint() { scripts/lint.sh --quick; }

# The processes that tests start. They have the points at which a test can kill one.
build() { go build -race -tags faultpoints -buildvcs=false -o "$PARLEY_TEST_BIN_DIR/" ./cmd/...; }

# Most tests wait for processes: more of them run at a time than there are CPUs.
tests() {
	# shellcheck disable=SC2086 # several flags
	go test -race -parallel 4 -timeout 20m ${TESTFLAGS:-} "${packages[@]}"
}

# The chart's tests are a module of their own, since they need Helm and Kubernetes. Go's cache of results does not look at what is
# outside of it.
chart() { (cd test/chart && go vet ./... && go test -count 1 ./...); }

# The packages of clients/. A Go test runs what was built against real pods.
clients() {
	if ! [ -w clients ]; then
		PARLEY_TEST_CLIENTS=$PARLEY_TEST_BIN_DIR/clients
		export PARLEY_TEST_CLIENTS
	fi
	scripts/clients.sh "${PARLEY_TEST_CLIENTS:-clients}"
}

packages=("$@")
# ./test takes longest, so it starts first.
if [ $# = 0 ]; then packages=(./test ./...); fi
PARLEY_TEST_BIN_DIR=$(mktemp -d)
export PARLEY_TEST_BIN_DIR
step 'format' format
step 'vet' go vet -race ./...
step 'lint' lint
step 'the processes' build
if [ $# = 0 ]; then step 'the clients' clients; fi
step 'tests' tests
if [ $# = 0 ]; then
	step 'the chart' chart
	step 'the benchmarks' scripts/bench-smoke.sh
fi
