#!/usr/bin/env bash
# busy.sh CMD...: runs the command while endless loops take the CPUs, four or LOOPS of them. It finds tests that pass on a quiet machine
# only: scripts/busy.sh make test.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

loops=()
end_loops() { [ ${#loops[@]} = 0 ] || kill "${loops[@]}" 2>/dev/null || true; }
trap end_loops EXIT
for ((i = 0; i < ${LOOPS:-4}; i++)); do
	(apart sh -c 'while :; do :; done') &
	loops+=("$!")
done
"$@"
