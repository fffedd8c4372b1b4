# What the scripts beside it share. Source it first: it goes to the top of the checkout.
# shellcheck shell=bash
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "$*" >&2; }
die() {
	printf 'parley: %s\n' "$*" >&2
	exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }
is_root() { [ "$(id -u)" = 0 ]; }

# go_image is what the tests and the demo run in where there is Docker but no Go.
# shellcheck disable=SC2034
go_image=golang:1.26-bookworm

# go_works tells whether there is a Go that can read go.mod; an older one than it wants downloads the right one by itself.
go_works() { have go && go list -m >/dev/null 2>&1; }

# docker_works tells whether an engine answers; the client alone is not enough.
docker_works() {
	have docker && [ -n "$(docker version --format '{{.Server.Version}}' 2>/dev/null)" ]
}

# checkout_name tells this checkout's containers, volumes and folders from another's.
checkout_name() { printf 'parley-%s' "$(pwd -P | cksum | cut -d' ' -f1)"; }

version() { git describe --tags --always --dirty 2>/dev/null || echo dev; }
commit() { git rev-parse HEAD 2>/dev/null || echo unknown; }

# port_taken tells whether somebody listens on a port of 127.0.0.1.
port_taken() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# free_port FIRST prints the first port from FIRST on that nobody listens on.
free_port() {
	local port=$1
	while port_taken "$port"; do port=$((port + 1)); done
	echo "$port"
}

# random_hex prints 256 random bits.
random_hex() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# gone PID... tells whether none of these children is left.
gone() {
	local pid
	for pid; do
		if kill -0 "$pid" 2>/dev/null; then return 1; fi
	done
}

# wait_gone SECONDS PID... waits until they are gone.
wait_gone() {
	local tries=$(($1 * 10))
	shift
	until gone "$@"; do
		[ $((tries -= 1)) -gt 0 ] || return 1
		sleep 0.1
	done
}

# apart CMD... becomes the command in a process group of its own, so that Ctrl-C reaches it only through its script, and
# has it stopped when the script is killed outright.
apart() {
	if ! have setsid; then exec "$@"; fi
	if ! have setpriv; then exec setsid "$@"; fi
	exec setsid setpriv --pdeathsig TERM "$@"
}
