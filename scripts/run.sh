#!/usr/bin/env bash
# run.sh: Parley on this machine, two api pods, the presence-watcher, the receipt-worker and the dispatcher, until Ctrl-C.
#
# Postgres and Redis are those of PARLEY_DATABASE_URL and PARLEY_REDIS_URL where they are set; else containers, where a
# Docker engine runs; else this machine's packages as private servers, installed where root can. Files are in a private S3 gateway, or
# where PARLEY_S3_ENDPOINT says. Without Go the processes are containers as well, and there are no files. All other settings of Parley's are
# handed on. What is kept is in .run/ or in Docker's volumes.
#
# SEED=on makes some people, groups and messages, once; by default it does so if the Postgres is not one that the settings name.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/packages.sh
. scripts/packages.sh
# shellcheck source=scripts/postgres.sh
. scripts/postgres.sh
# shellcheck source=scripts/children.sh
. scripts/children.sh
# shellcheck source=scripts/monitoring.sh
. scripts/monitoring.sh

image=parley:run
ready_seconds=60

main() {
	one_at_a_time
	rm -rf .run/logs .run/urls .run/*.killed
	mkdir -p .run/logs
	trap clean_up EXIT
	trap 'exit 0' INT TERM HUP
	choose
	provide_postgres
	provide_redis
	provide_storage
	provide_settings
	build
	provide_issuer
	migrate
	start_processes
	wait_ready
	revive_from_now_on
	start_monitoring
	start_playground
	announce
	while :; do
		check_children
		sleep 0.5
	done
}

one_at_a_time() {
	mkdir -p .run
	if ! have flock; then return; fi
	exec 9>.run/lock
	flock -n 9 || die "it runs already in this checkout"
}

clean_up() {
	local status=$?
	trap '' INT TERM HUP
	if [ ${#pids[@]} -gt 0 ]; then
		say "Stopping ..."
		stop_children
	fi
	if [ "${network:-}" = yes ]; then docker network rm "$(checkout_name)" >/dev/null 2>&1 || true; fi
	rm -f .run/urls .run/env .run/*.pid .run/*.killed
	if [ "$status" = 0 ]; then say "Stopped."; fi
	exit "$status"
}

# choose decides between Docker and this machine's own programs.
choose() {
	docker=no containers=no network=no
	if docker_works; then docker=yes; fi
	if ! go_works; then
		[ "$docker" = yes ] || die "this needs Go $(sed -n 's/^go //p' go.mod) or later, or Docker"
		containers=yes
	fi
	if [ "$docker" = yes ]; then
		docker network inspect "$(checkout_name)" >/dev/null 2>&1 || docker network create "$(checkout_name)" >/dev/null
		network=yes
	fi
}

# keep NAME prints a secret that is made once.
keep() {
	local file=.run/$1
	[ -s "$file" ] || (umask 077 && random_hex >"$file")
	cat "$file"
}

# service_port FIRST prints a port for a server of this checkout, mostly the same one.
service_port() { free_port $(($1 + $(pwd -P | cksum | cut -d' ' -f1) % 500)); }

provide_postgres() {
	seed=${SEED:-on}
	if [ -n "${PARLEY_DATABASE_URL:-}${PARLEY_DATABASE_HOST:-}" ]; then
		seed=${SEED:-off}
		say "Postgres: the one that the settings name"
		return
	fi
	local password port dir
	password=$(keep postgres-password)
	port=$(service_port 31000)
	if [ "$docker" = yes ]; then
		say "Postgres: a container, on port $port"
		POSTGRES_PASSWORD=$password container postgres -p "127.0.0.1:$port:5432" -v "$(checkout_name)-postgres:/var/lib/postgresql/data" \
			-e POSTGRES_USER=parley -e POSTGRES_DB=parley -e POSTGRES_PASSWORD postgres:16-alpine
		wait_container postgres pg_isready -q -h 127.0.0.1 -U parley
		if [ "$containers" = yes ]; then set_database "$password" postgres:5432; else set_database "$password" "127.0.0.1:$port"; fi
		return
	fi
	need_packages postgres
	dir=$(private_dir postgres)
	say "Postgres: a private server on port $port, its data in $dir"
	postgres_init "$dir" "$password"
	postgres_start "$dir" "$port" || die "Postgres does not start: $(tail -n 5 "$dir/log")"
	ln -s "$dir/log" .run/logs/postgres.log
	adopt postgres "$postgres_pid"
	PGPASSWORD=$password "$(postgres_bin)/createdb" -h 127.0.0.1 -p "$port" -U parley parley 2>/dev/null || true # it may be there
	set_database "$password" "127.0.0.1:$port"
}

# set_database PASSWORD ADDRESS
set_database() { export PARLEY_DATABASE_URL="postgres://parley:$1@$2/parley?sslmode=disable"; }

# private_dir NAME prints a folder for a server's data: in .run, or, where the user that Postgres runs as can't get there,
# in the machine's folder for lasting temporary files.
private_dir() {
	local dir=$PWD/.run/$1 far
	far=/var/tmp/$(checkout_name)/$1
	mkdir -p "$dir"
	if is_root; then
		chown "$(postgres_owner)" "$dir"
		if ! (as_postgres test -w "$dir") 2>/dev/null; then
			mkdir -p "$far"
			chown "$(postgres_owner)" "$far"
			dir=$far
		fi
	fi
	echo "$dir"
}

provide_redis() {
	stoppable='' # how the page /demo may stop it
	if [ -n "${PARLEY_REDIS_URL:-}" ]; then
		say "Redis: the one that the settings name"
		return
	fi
	local password port
	password=$(keep redis-password)
	port=$(service_port 31500)
	if [ "$docker" = yes ]; then
		say "Redis: a container, on port $port"
		# shellcheck disable=SC2016 # the container's shell is to expand it
		REDIS_PASSWORD=$password container redis -p "127.0.0.1:$port:6379" -v "$(checkout_name)-redis:/data" -e REDIS_PASSWORD \
			redis:7-alpine sh -c 'exec redis-server --appendonly yes --requirepass "$REDIS_PASSWORD"'
		# shellcheck disable=SC2016
		wait_container redis sh -c 'REDISCLI_AUTH="$REDIS_PASSWORD" redis-cli ping | grep -q PONG'
		stoppable=container:$(checkout_name)-redis
		if [ "$containers" = yes ]; then port=redis:6379; else port=127.0.0.1:$port; fi
		export PARLEY_REDIS_URL="redis://:$password@$port/0"
		return
	fi
	need_packages redis
	say "Redis: a private server on port $port, its data in .run/redis"
	mkdir -p .run/redis
	(umask 077 && printf 'requirepass %s\n' "$password" >.run/redis/redis.conf)
	launch redis redis-server .run/redis/redis.conf --bind 127.0.0.1 --port "$port" --dir .run/redis --appendonly yes
	until port_taken "$port"; do
		check_children
		sleep 0.1
	done
	stoppable=process
	export PARLEY_REDIS_URL="redis://:$password@127.0.0.1:$port/0"
}

# provide_storage starts an S3 gateway over a folder, for files in messages. Everything else works without it.
provide_storage() {
	if [ -n "${PARLEY_S3_ENDPOINT:-}" ]; then
		say "Files: the storage that the settings name"
		return
	fi
	if [ "$containers" = yes ]; then
		say "Files: none, since the storage for them is built with Go; PARLEY_S3_ENDPOINT names another"
		return
	fi
	local program password port
	if ! program=$(scripts/storage.sh); then
		say "Files: none, since their storage could not be built; PARLEY_S3_ENDPOINT names another"
		return
	fi
	password=$(keep storage-password)
	port=$(service_port 32000)
	say "Files: a private S3 gateway on port $port, its data in .run/storage"
	mkdir -p .run/storage/data/parley .run/storage/meta
	# Its settings are in its environment, where ps shows no secret. Pages of any origin may upload.
	ROOT_ACCESS_KEY=parley ROOT_SECRET_KEY=$password VGW_CORS_ALLOW_ORIGIN='*' \
		launch storage "$program" --port "127.0.0.1:$port" --quiet posix --sidecar "$PWD/.run/storage/meta" "$PWD/.run/storage/data"
	until port_taken "$port"; do
		check_children
		sleep 0.1
	done
	export PARLEY_S3_ENDPOINT="http://127.0.0.1:$port" PARLEY_S3_BUCKET=parley PARLEY_S3_PATH_STYLE=true
	export PARLEY_S3_ACCESS_KEY=parley PARLEY_S3_SECRET_KEY=$password
}

# wait_container NAME CMD... waits until the command succeeds in the container.
wait_container() {
	local name
	name=$(checkout_name)-$1
	shift
	until docker exec "$name" "$@" >/dev/null 2>&1; do
		check_children
		sleep 0.3
	done
}

provide_settings() {
	export PARLEY_JWT_SECRET="${PARLEY_JWT_SECRET:-$(keep jwt-secret)}"
	export PARLEY_SECRETS_KEY="${PARLEY_SECRETS_KEY:-$(keep secrets-key | as_base64)}"
	export PARLEY_BOOTSTRAP_KEY="${PARLEY_BOOTSTRAP_KEY:-$(server_key)}"
	# Any 32 bytes are a key of web push, but for one in four billion.
	export PARLEY_PUSH_VAPID_PRIVATE_KEY="${PARLEY_PUSH_VAPID_PRIVATE_KEY:-$(keep vapid-key | as_base64 | tr '+/' '-_' | tr -d '=')}"
	export PARLEY_PUSH_VAPID_SUBJECT="${PARLEY_PUSH_VAPID_SUBJECT:-https://github.com/parley-chat/parley}"
	export PARLEY_WEBHOOK_ALLOW_CIDRS="${PARLEY_WEBHOOK_ALLOW_CIDRS:-127.0.0.0/8}"
	export PARLEY_LOG_FORMAT="${PARLEY_LOG_FORMAT:-text}"
	# For trying things out: pages of a dev server, and more than five people in a quarter of an hour. Wrong passwords count as ever.
	export PARLEY_ALLOWED_ORIGINS="${PARLEY_ALLOWED_ORIGINS:-http://localhost:*,http://127.0.0.1:*}"
	export PARLEY_RATE_LIMIT_AUTH="${PARLEY_RATE_LIMIT_AUTH:-1000/15m}"
	if [ "${PARLEY_AUTH_MODE:-}" != external ]; then export PARLEY_WEB="${PARLEY_WEB:-on}"; fi
	if [ "$containers" = yes ]; then
		case "${PARLEY_DATABASE_URL:-}${PARLEY_DATABASE_HOST:-}${PARLEY_REDIS_URL:-}" in *127.0.0.1* | *localhost*)
			die "Parley runs in containers here, to which localhost is themselves: name the machine host.docker.internal in the settings"
			;;
		esac
	fi
}

build() {
	say "Building ..."
	if [ "$containers" = yes ]; then IMAGE=$image scripts/image.sh; else scripts/build.sh; fi
}

# provide_issuer starts a small issuer of tokens, so that people may come with a token of a product's as well as with a password.
provide_issuer() {
	if [ -n "${PARLEY_AUTH_MODE:-}" ] || [ "$containers" = yes ]; then return; fi
	local port
	port=$(service_port 32500)
	CGO_ENABLED=0 go build -o .run/issuer ./scripts/issuer
	say "Tokens: an issuer of its own on port $port"
	launch issuer .run/issuer "127.0.0.1:$port"
	until port_taken "$port"; do
		check_children
		sleep 0.1
	done
	issuer_url=http://127.0.0.1:$port
	export PARLEY_AUTH_MODE=both PARLEY_AUTH_ISSUER=http://issuer.localhost PARLEY_AUTH_AUDIENCE=chat PARLEY_AUTH_JWKS_URL=$issuer_url/jwks
}

# parley_container NAME ARG... starts a container that is handed all settings of Parley's, by name so that ps shows no secret.
parley_container() {
	local name=$1 setting settings=()
	shift
	while IFS= read -r setting; do settings+=(-e "$setting"); done < <(compgen -e | grep -E '^(PARLEY|OTEL)_')
	container "$name" "${settings[@]}" "$@"
}

# as_base64 writes the bytes that hexadecimal digits name in base64.
as_base64() {
	local hex
	hex=$(cat)
	printf '%b' "$(sed 's/../\\x&/g' <<<"$hex")" | base64 | tr -d '\n'
}

# server_key prints this checkout's server key, with all scopes: for trying the server API out.
server_key() {
	local a b
	a=$(keep server-key-id)
	b=$(keep server-key | as_base64 | tr '+/' '-_' | tr -d '=')
	printf 'parley_sk_%s7%s8%s_%s' "${a:0:12}" "${a:12:3}" "${a:15:15}" "$b"
}

migrate() {
	say "Migrating ..."
	if [ "$containers" = yes ]; then
		parley_container migrate "$image" api migrate
	else
		launch migrate bin/api migrate
	fi
	local last=$((${#pids[@]} - 1))
	if ! wait "${pids[last]}"; then
		log_tail migrate
		die "the database could not be migrated"
	fi
	unset "pids[$last]" "names[$last]"
}

# port WHAT WANTED sets the variable to a port that is free, and tells where it is another than usual.
port() {
	local got
	got=$(free_port "$2")
	if [ "$got" != "$2" ]; then say "Port $2 is taken by another program: using $got"; fi
	printf -v "$1" %s "$got"
}

# shellcheck disable=SC2154 # port sets them
start_processes() {
	port api_1_http 8081
	port api_2_http $((api_1_http + 1))
	port api_1_ops 9091
	port api_2_ops $((api_1_ops + 1))
	port watcher_ops $((api_2_ops + 1))
	port worker_ops $((watcher_ops + 1))
	port dispatcher_ops $((worker_ops + 1))
	process api-1 api "$api_1_ops" "$api_1_http"
	process api-2 api "$api_2_ops" "$api_2_http"
	process presence-watcher presence-watcher "$watcher_ops"
	process receipt-worker receipt-worker "$worker_ops"
	process dispatcher dispatcher "$dispatcher_ops"
	show_errors &
}

# shellcheck disable=SC2154 # port sets them
start_monitoring() {
	provide_monitoring "api-1=$api_1_ops" "api-2=$api_2_ops" "presence-watcher=$watcher_ops" "receipt-worker=$worker_ops" "dispatcher=$dispatcher_ops"
}

# start_playground serves /demo and makes the people and messages, once Parley runs. Parley does not need it.
# shellcheck disable=SC2154 # port sets them
start_playground() {
	demo_url='' seeds=no
	if [ "${PARLEY_WEB:-}" != on ]; then return; fi
	if [ "$containers" = yes ]; then
		say "No /demo and nobody to chat with yet: these need Go"
		return
	fi
	port demo_http $((api_2_http + 1))
	demo_url=http://127.0.0.1:$demo_http/demo
	local arguments=(-addr "127.0.0.1:$demo_http" -dir .run -redis "$stoppable"
		-pods "api-1=http://127.0.0.1:$api_1_http,api-2=http://127.0.0.1:$api_2_http")
	if [ "$seed" = on ]; then
		seeds=yes
		arguments+=(-seed)
	fi
	# shellcheck disable=SC2016 # the inner shell is to expand it
	CGO_ENABLED=0 launch playground bash -c 'go build -buildvcs=false -o bin/playground ./scripts/playground && exec bin/playground "$@"' - "${arguments[@]}"
	tail --pid $$ -n +1 -F .run/logs/playground.log 2>/dev/null >&2 &
}

declare -A revivable=() # the arguments of process by name, of those that are started again when they die
declare -A born=() deaths=()

# revive NAME STATUS tells whether a child that ended is to be started again: a process of Parley's that has served before, unless
# its settings are wrong (2), or it dies at once three times over.
revive() {
	[ -n "${revivable[$1]:-}" ] && [ "$2" != 2 ] || return 1
	if [ -e ".run/$1.killed" ]; then # by the page /demo
		rm -f ".run/$1.killed"
	elif [ $((SECONDS - born[$1])) -lt 10 ]; then deaths[$1]=$((${deaths[$1]:-0} + 1)); else deaths[$1]=0; fi
	[ "${deaths[$1]:-0}" -lt 3 ] || return 1
	say "$1 ended (exit code $2): starting it again"
}

# start_again NAME
start_again() {
	local args
	read -ra args <<<"${revivable[$1]}"
	process "${args[@]}"
}

# process NAME BINARY OPS_PORT [HTTP_PORT]
process() {
	born[$1]=$SECONDS
	if [ "$containers" = no ]; then
		launch "$1" env PARLEY_OPS_ADDR="127.0.0.1:$3" PARLEY_HTTP_ADDR="127.0.0.1:${4:-0}" "bin/$2"
		return
	fi
	local publish=(-p "127.0.0.1:$3:9090")
	if [ -n "${4:-}" ]; then publish+=(-p "127.0.0.1:$4:8080"); fi
	parley_container "$1" "${publish[@]}" -e PARLEY_OPS_ADDR=:9090 -e PARLEY_HTTP_ADDR=:8080 "$image" "$2"
}

# shellcheck disable=SC2154 # port sets them
revive_from_now_on() {
	revivable=([api-1]="api-1 api $api_1_ops $api_1_http" [api-2]="api-2 api $api_2_ops $api_2_http"
		[presence-watcher]="presence-watcher presence-watcher $watcher_ops" [receipt-worker]="receipt-worker receipt-worker $worker_ops"
		[dispatcher]="dispatcher dispatcher $dispatcher_ops")
}

# show_errors repeats in the terminal what the processes log as errors.
show_errors() {
	local name
	for name in api-1 api-2 presence-watcher receipt-worker dispatcher; do
		tail --pid $$ -n +1 -F ".run/logs/$name.log" 2>/dev/null | sed -un "/level=ERROR\|\"level\":\"ERROR\"\|^panic:/s/^/$name: /p" >&2 &
	done
	wait
}

# http_ok PORT PATH asks without curl, which a bare machine lacks.
http_ok() {
	local status
	status=$(
		exec 2>/dev/null 3<>"/dev/tcp/127.0.0.1/$1" || exit 1
		printf 'GET %s HTTP/1.0\r\nHost: 127.0.0.1:%s\r\n\r\n' "$2" "$1" >&3
		IFS= read -r -t 5 line <&3 && echo "$line"
	) && [[ $status == HTTP/1.*' 200'* ]]
}

wait_ready() {
	local begun=$SECONDS
	until http_ok "$api_1_http" /api/health/ready && http_ok "$api_2_http" /api/health/ready &&
		http_ok "$watcher_ops" /readyz && http_ok "$worker_ops" /readyz && http_ok "$dispatcher_ops" /readyz; do
		check_children
		if [ $((SECONDS - begun)) -gt "$ready_seconds" ]; then
			log_tail api-1
			die "Parley was not ready within $ready_seconds s; its logs are in .run/logs"
		fi
		sleep 0.2
	done
}

announce() {
	local one="http://127.0.0.1:$api_1_http" two="http://127.0.0.1:$api_2_http"
	if [ "$containers" = yes ]; then
		echo "http://api-1:8080,http://api-2:8080" >.run/urls
	else
		echo "$one,$two" >.run/urls
	fi
	(
		umask 077
		if [ -n "${PARLEY_DATABASE_URL:-}" ]; then printf 'export PARLEY_DATABASE_URL=%q\n' "$PARLEY_DATABASE_URL"; fi
		printf 'export PARLEY_JWT_SECRET=%q\n' "$PARLEY_JWT_SECRET"
		printf 'export PARLEY_BOOTSTRAP_KEY=%q\n' "$PARLEY_BOOTSTRAP_KEY"
		if [ -n "${issuer_url:-}" ]; then printf 'export PARLEY_DEMO_ISSUER=%q\n' "$issuer_url"; fi
	) >.run/env
	local page=
	if [ "${PARLEY_WEB:-}" = on ]; then
		page="  page     $one/
"
		if [ "$seeds" = yes ]; then page+="           sign in as anna, ben, cleo, dev, emil or fay; each has the password \"correct horse battery\"
"; fi
		if [ -n "$demo_url" ]; then page+="  demo     $demo_url, two people on two pods, with faults to try
"; fi
	fi
	cat <<TXT

Parley runs: two api pods, the presence-watcher, the receipt-worker and the dispatcher.

${page}  API      $one/api  $two/api
  docs     $one/api/docs
  health   $one/api/health/ready
${issuer_url:+  tokens   curl -X POST '$issuer_url/token?sub=ana&name=Ana'
}  metrics  $one/api/metrics; each process: http://127.0.0.1:{$api_1_ops,$api_2_ops,$watcher_ops,$worker_ops,$dispatcher_ops}/metrics
${prometheus_url:+  rules    $prometheus_url/alerts
}${grafana_url:+  boards   $grafana_url/d/parley-overview
}  logs     .run/logs/

Try in another terminal: make demo, or README's five minutes. A process that dies is started again.
Ctrl-C stops everything; the data is kept, until make clean.

TXT
}

main
