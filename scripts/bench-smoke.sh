#!/usr/bin/env bash
# bench-smoke.sh [PACKAGE...]: each benchmark once, as small as it can be, and the tests of the packages. It tells whether they
# still work and what they count is right; the times mean nothing, since most only wait and so all run at once. It runs under
# with-services.sh.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

export PARLEY_BENCH_SOCKETS=200 PARLEY_BENCH_SECONDS=1 PARLEY_BENCH_DEPTH=2000 PARLEY_BENCH_STORED=2000 PARLEY_BENCH_DEVICES=500 \
	PARLEY_BENCH_WAIT=3 PARLEY_BENCH_READS=2000 PARLEY_BENCH_CLIENTS=50 PARLEY_BENCH_KEYS=10000 PARLEY_BENCH_USERS=5000 \
	PARLEY_BENCH_EVENTS=400 PARLEY_BENCH_BEHIND=3000 PARLEY_BENCH_REACTIONS=40 PARLEY_BENCH_PUBLISHES=2000 PARLEY_BENCH_ROWS=2000 PARLEY_BENCH_PAIRS=2
# What takes long for its size, and what waits long and so has a process of its own.
big='/pods=1|/nodes=6|//receivers=(1000|5000)|///backlog'
apart=(Connections Sizing OfflineLag)

mapfile -t folders < <(grep -rl --include='*_test.go' '^func Benchmark' bench | xargs -n 1 dirname | sort -u)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Without cgo and paths Go compiles for the binaries what it compiled for other builds without the race detector.
export CGO_ENABLED=0 PARLEY_TEST_RELEASE_DIR=$work/release
go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$PARLEY_TEST_RELEASE_DIR/" ./cmd/api ./cmd/dispatcher
go test -trimpath -c -o "$work/" "${folders[@]/#/./}" "$@"

names=() pids=()
# job NAME FOLDER ARG... starts a package's test binary in the background, in its folder.
job() {
	local name=$1 folder=$2
	shift 2
	(cd "$folder" && exec "$work/$(basename "$folder").test" -test.timeout 5m "$@") >"$work/$name.log" 2>&1 &
	names+=("$name") pids+=("$!")
}

skip="^Benchmark($(IFS='|' && echo "${apart[*]}"))|$big"
for folder in "${folders[@]}"; do
	job "$(basename "$folder")" "$folder" -test.run '^$' -test.bench . -test.skip "$skip" -test.benchtime 1x
	for b in "${apart[@]}"; do
		if grep -q "^func Benchmark$b(" "$folder"/*_test.go; then
			job "$b" "$folder" -test.run '^$' -test.bench "$b" -test.benchtime 1x
		fi
	done
done
for package; do job "tests of $(basename "$package")" "$package"; done

failed=0
for i in "${!pids[@]}"; do
	if wait "${pids[i]}"; then
		say "   ${names[i]}: ok"
	else
		failed=1
		say "${names[i]} failed:"
		cat "$work/${names[i]}.log" >&2
	fi
done
exit "$failed"
