# Installs Debian's packages where they are missing. Source it after lib.sh.
# shellcheck shell=bash

# postgres_bin prints the folder of Postgres's programs, which Debian keeps off the PATH.
postgres_bin() {
	local dir found=
	for dir in /usr/lib/postgresql/*/bin; do
		if [ -x "$dir/initdb" ]; then found=$dir; fi
	done
	if [ -z "$found" ] && have initdb && have postgres; then found=$(dirname "$(command -v initdb)"); fi
	[ -n "$found" ] && echo "$found"
}

# missing_packages WHAT... prints the packages that have to be installed for postgres, redis, prometheus, gcc, node, pgbouncer.
missing_packages() {
	local what
	for what; do
		case $what in
		postgres) postgres_bin >/dev/null || echo postgresql ;;
		redis) have redis-server || echo redis-server ;;
		prometheus) have promtool && have prometheus || echo prometheus ;;
		gcc) have "${CC:-gcc}" || echo gcc libc6-dev ;;
		node) have node && have npm || echo nodejs npm ;;
		pgbouncer) have pgbouncer || [ -x /usr/sbin/pgbouncer ] || echo pgbouncer ;;
		esac
	done
}

can_install() { is_root && have apt-get; }

# need_packages WHAT... installs what is missing, or tells how.
need_packages() {
	local missing
	missing=$(missing_packages "$@" | xargs)
	if [ -z "$missing" ]; then return; fi
	can_install || die "these packages are missing: $missing. As root: apt-get install $missing"
	(
		if have flock; then # another checkout may be at it
			exec 9</etc/apt
			flock 9
		fi
		missing=$(missing_packages "$@" | xargs)
		# shellcheck disable=SC2086 # several words
		if [ -n "$missing" ]; then install_packages $missing; fi
	) || die "the packages could not be installed: $(missing_packages "$@" | xargs)"
	[ -z "$(missing_packages "$@")" ] || die "still missing after the installation: $(missing_packages "$@" | xargs)"
}

apt() {
	DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null
}

# install_packages NAME... installs them without starting their services, now or at the next boot, and without Debian's
# own database cluster. It runs in a subshell.
install_packages() {
	install_log=$(mktemp)
	trap 'undo_install; rm -f "$install_log"' EXIT
	say "Installing Debian's packages: $*"
	if ! try_install "$@" >"$install_log" 2>&1; then
		tail -n 20 "$install_log" >&2
		return 1
	fi
}

try_install() {
	local conf=/etc/postgresql-common/createcluster.conf
	if ! ls /var/lib/apt/lists/*_Packages* >/dev/null 2>&1; then apt update || true; fi
	if [ ! -e /usr/sbin/policy-rc.d ]; then
		printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
		chmod +x /usr/sbin/policy-rc.d
		policy_is_ours=yes
	fi
	case " $* " in *' postgresql '*)
		apt_with_update install -y --no-install-recommends postgresql-common || return
		cp -p "$conf" "$conf.parley"
		echo 'create_main_cluster = false' >>"$conf"
		;;
	esac
	apt_with_update install -y --no-install-recommends "$@" || return
	local service
	for service; do
		case $service in postgresql | redis-server | prometheus | pgbouncer) update-rc.d "$service" disable ;; esac
	done
}

# apt_with_update tries once more with newer lists: old ones name files that are gone.
apt_with_update() { apt "$@" || { apt update || true; apt "$@"; }; }

undo_install() {
	local conf=/etc/postgresql-common/createcluster.conf
	if [ "${policy_is_ours:-}" = yes ]; then rm -f /usr/sbin/policy-rc.d; fi
	if [ -e "$conf.parley" ]; then mv "$conf.parley" "$conf"; fi
}
