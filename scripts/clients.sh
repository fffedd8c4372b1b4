#!/usr/bin/env bash
# clients.sh [DIR]: installs what the clients' tests need, builds the packages of clients/, runs their tests and checks the page. Where there is no Node
# and none can be installed, it says so and does nothing. DIR, by default clients/, is a copy to work in: the checkout may be read-only.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
# shellcheck source=scripts/packages.sh
. scripts/packages.sh

wanted=20
dir=${1:-clients}

node_works() { have node && have npm && [ "$(node -p 'process.versions.node.split(".")[0]')" -ge "$wanted" ]; }

# provide_node puts a Node that is new enough on the PATH. Debian 12 has version 18; npm has the others as packages.
provide_node() {
	if node_works; then return; fi
	if ! have node && can_install; then need_packages node; fi
	have npm && have node || return 1
	if node_works; then return; fi
	local arch cache
	case $(uname -m) in x86_64) arch=x64 ;; aarch64) arch=arm64 ;; *) return 1 ;; esac
	cache=${XDG_CACHE_HOME:-$HOME/.cache}/parley/node
	[ -x "$cache/node_modules/node-linux-$arch/bin/node" ] ||
		npm install --silent --no-audit --no-fund --prefix "$cache" "node-linux-$arch@$wanted" >&2 || return 1
	PATH=$cache/node_modules/node-linux-$arch/bin:$PATH
	node_works
}

if ! provide_node; then
	say "   there is no Node $wanted: the clients are not tested"
	exit 0
fi
if [ "$dir" != clients ]; then
	mkdir -p "$dir"
	(cd clients && tar cf - --exclude node_modules --exclude .build --exclude dist .) | tar xf - -C "$dir"
fi
root=$PWD tutorial=$PWD/docs/tutorial-react.md
cd "$dir"
# npm leaves a copy of the lock file in node_modules: what is installed already is not installed again.
if ! [ node_modules/.package-lock.json -nt package-lock.json ]; then npm ci --silent --no-audit --no-fund --ignore-scripts >&2; fi
npm run --silent build
npm run --silent check
npm test --silent
node scripts/tutorial.mjs "$tutorial"
# The page is built on the client. What the api embeds has to be what its source makes.
"$PWD/node_modules/.bin/tsc" -p "$root/web"
node "$root/web/build.mjs" --check "$PWD"
