#!/usr/bin/env bash
# clean.sh: removes what make run and make build left, data included.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
if [ -e .run/lock ] && have flock; then
	exec 9>.run/lock
	flock -n 9 || die "Parley runs in this checkout: stop it first"
fi
rm -rf .run bin dist "/var/tmp/$(checkout_name)"
if docker_works; then
	for volume in "$(checkout_name)-postgres" "$(checkout_name)-redis" "$(checkout_name)-prometheus"; do
		docker volume rm "$volume" >/dev/null 2>&1 || true
	done
fi
