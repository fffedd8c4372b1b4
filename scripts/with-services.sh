#!/usr/bin/env bash
# with-services.sh [--durable] CMD...: runs the command where it has Go, a C compiler, redis-server, prometheus and promtool, and
# a Postgres server of its own, named by PARLEY_TEST_POSTGRES_URL. All of that is gone when it ends, however it ends. --durable has
# Postgres sync each commit, which benchmarks want and tests don't.
#
# It needs Go and either Debian's packages or root to install them, else Docker.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
. scripts/packages.sh
. scripts/postgres.sh

main() {
	fsync=off flags=()
	if [ "${1:-}" = --durable ]; then
		fsync=on flags=(--durable)
		shift
	fi
	if go_works && { can_install || [ -z "$(missing_packages postgres redis prometheus gcc)" ]; }; then
		here "$@"
	elif docker_works; then
		in_container "$@"
	elif go_works; then
		need_packages postgres redis prometheus gcc # tells what is missing
	else
		die "this needs Go $(sed -n 's/^go //p' go.mod) or later, or Docker"
	fi
}

here() {
	trap clean_up EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	need_packages postgres redis prometheus gcc
	work=$(mktemp -d "${TMPDIR:-/tmp}/parley-services.XXXXXX")
	chmod 755 "$work" # the user that runs Postgres has to get in
	export TMPDIR=$work
	start_postgres
	(apart "$@") &
	command_pid=$!
	wait "$command_pid"
}

start_postgres() {
	local password tries=5 port
	password=$(random_hex)
	mkdir "$work/postgres"
	postgres_init "$work/postgres" "$password"
	while :; do
		port=$(free_port $((30000 + RANDOM % 2000)))
		if postgres_start "$work/postgres" "$port" -c fsync="$fsync" -c max_connections=400 -c shared_buffers=256MB; then break; fi
		[ $((tries -= 1)) -gt 0 ] || die "Postgres does not start: $(tail -n 5 "$work/postgres/log")"
	done
	export PARLEY_TEST_POSTGRES_URL="postgres://parley:$password@127.0.0.1:$port/postgres?sslmode=disable"
}

clean_up() {
	local status=$?
	trap '' INT TERM HUP
	if [ -n "${command_pid:-}" ] && ! gone "$command_pid"; then
		kill -TERM -- "-$command_pid" 2>/dev/null || true # the command and all that it started
		wait_gone 10 "$command_pid" || kill -KILL -- "-$command_pid"
	fi
	if [ -n "${postgres_pid:-}" ]; then postgres_stop; fi
	if [ -n "${work:-}" ]; then rm -rf "$work"; fi
	exit "$status"
}

# in_container runs this script in a container, as root, with the checkout read-only and Go's caches in volumes.
in_container() {
	local name tty=()
	name=$(checkout_name)-$$
	say "No Go and packages here: in a container of $go_image"
	if [ -t 1 ]; then tty=(--tty); fi
	trap 'docker rm -f "$name" >/dev/null 2>&1 || true' EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	docker run --rm --init --name "$name" ${tty[@]+"${tty[@]}"} -v "$PWD:/src:ro" -w /src -v parley-go-build:/go/build \
		-v parley-go-mod:/go/pkg/mod -e GOCACHE=/go/build -e CI -e GOPROXY -e GOFLAGS=-buildvcs=false \
		"$go_image" scripts/with-services.sh ${flags[@]+"${flags[@]}"} "$@" &
	wait "$!"
}

main "$@"
