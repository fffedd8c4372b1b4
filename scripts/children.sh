# The processes that `make run` holds: started, watched and ended together. Source it after lib.sh.
# shellcheck shell=bash

names=() # of the children, in the order of their start
pids=()

# launch NAME CMD... starts a child that prints into .run/logs/NAME.log.
launch() {
	local name=$1
	shift
	(apart "$@") </dev/null >>".run/logs/$name.log" 2>&1 &
	adopt "$name" "$!"
	echo "$!" >".run/$name.pid"
}

# adopt NAME PID holds a child that was started elsewhere.
adopt() {
	names+=("$1")
	pids+=("$2")
}

# container NAME ARG... is launch for a container, which ends with its client: docker run's arguments, image and command.
container() {
	local name=$1 full
	shift
	full=$(checkout_name)-$name
	docker rm -f "$full" >/dev/null 2>&1 || true # one that a killed run left
	launch "$name" docker run --rm --name "$full" --network "$(checkout_name)" --network-alias "$name" \
		--add-host host.docker.internal:host-gateway "$@"
}

# log_tail NAME prints the last that a child said.
log_tail() { tail -n 15 ".run/logs/$1.log" | sed 's/^/    /' >&2; }

# check_children starts those again that the script revives, and ends the script when another has ended that Parley needs.
check_children() {
	local i status=0 name
	for i in "${!pids[@]}"; do
		if gone "${pids[i]}"; then
			case ${names[i]} in prometheus | grafana | playground)
				say "${names[i]} ended; Parley runs on. Why is in .run/logs/${names[i]}.log"
				unset "pids[$i]" "names[$i]"
				continue
				;;
			esac
			wait "${pids[i]}" 2>/dev/null || status=$?
			if revive "${names[i]}" "$status"; then
				name=${names[i]}
				unset "pids[$i]" "names[$i]"
				start_again "$name"
				return
			fi
			say "${names[i]} ended (exit code $status). Its last words, of .run/logs/${names[i]}.log:"
			log_tail "${names[i]}"
			exit 1
		fi
	done
}

# stop_children ends them in turn: Parley's processes together, then the storage, Redis and Postgres.
stop_children() {
	local i n held=("${!pids[@]}") together=()
	for ((n = ${#held[@]} - 1; n >= 0; n--)); do
		i=${held[n]}
		case ${names[i]} in
		postgres | redis | storage)
			end_children ${together[@]+"${together[@]}"}
			together=()
			end_children "$i"
			;;
		*) together+=("$i") ;;
		esac
	done
	end_children ${together[@]+"${together[@]}"}
}

# end_children INDEX... asks them to end and waits, and kills who does not.
end_children() {
	local i left=()
	for i; do
		if gone "${pids[i]}"; then continue; fi
		left+=("${pids[i]}")
		case ${names[i]} in
		postgres) kill -INT "${pids[i]}" || true ;; # without waiting for its clients
		*) kill -TERM "${pids[i]}" || true ;;
		esac
	done
	[ ${#left[@]} -gt 0 ] || return 0
	wait_gone 40 "${left[@]}" || kill -KILL "${left[@]}" 2>/dev/null || true
}
