# A private Postgres server. Source it after lib.sh and packages.sh.
# shellcheck shell=bash

# as_postgres CMD... becomes the command as a user that Postgres accepts: it refuses root.
as_postgres() {
	if is_root; then
		local user=postgres
		id "$user" >/dev/null 2>&1 || user=nobody
		exec setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups "$@"
	fi
	exec "$@"
}

postgres_owner() { (as_postgres id -u); }

# postgres_init DIR PASSWORD makes the server's data in DIR (absolute), where there is none yet. Its user is parley.
postgres_init() {
	local dir=$1 bin
	bin=$(postgres_bin)
	if [ -e "$dir/data" ]; then return; fi
	rm -rf "$dir/new"
	printf '%s\n' "$2" >"$dir/password"
	chmod 600 "$dir/password"
	if is_root; then chown -R "$(postgres_owner)" "$dir"; fi
	(cd "$dir" && as_postgres "$bin/initdb" -D "$dir/new" -U parley -A scram-sha-256 --pwfile="$dir/password" -E UTF8 --locale=C.UTF-8 \
		--no-sync >"$dir/log" 2>&1) || die "initdb failed: $(tail -n 5 "$dir/log")"
	mv "$dir/new" "$dir/data" # whole or not at all
}

# postgres_start DIR PORT [OPTION...] starts it and waits until it answers. It sets postgres_pid. A 1 means that it ended,
# a port that was taken meanwhile, for one; DIR/log tells.
postgres_start() {
	local dir=$1 port=$2 bin
	shift 2
	bin=$(postgres_bin)
	(cd "$dir" && as_postgres setsid setpriv --pdeathsig QUIT "$bin/postgres" -D "$dir/data" -p "$port" -c listen_addresses=127.0.0.1 \
		-c unix_socket_directories= "$@" </dev/null >"$dir/log" 2>&1) &
	postgres_pid=$!
	until "$bin/pg_isready" -q -h 127.0.0.1 -p "$port"; do
		if gone "$postgres_pid"; then return 1; fi
		sleep 0.1
	done
	! gone "$postgres_pid"
}

# postgres_stop stops it with its connections, in order.
postgres_stop() {
	kill -INT "$postgres_pid" 2>/dev/null || true
	wait_gone 20 "$postgres_pid" || kill -QUIT "$postgres_pid"
	wait "$postgres_pid" 2>/dev/null || true
}
