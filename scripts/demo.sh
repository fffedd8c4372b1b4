#!/usr/bin/env bash
# demo.sh: two people chat over two pods, those of `make run` in this checkout unless PARLEY_DEMO_URLS names others. With `make run` it
# shows a product with an issuer and a server key of its own too.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

urls=${PARLEY_DEMO_URLS:-}
if [ -z "$urls" ]; then
	[ -s .run/urls ] || die "nothing runs in this checkout: start it with make run, in another terminal"
	urls=$(cat .run/urls)
	# shellcheck disable=SC1091 # make run writes it
	. .run/env
	export PARLEY_DEMO_ISSUER PARLEY_BOOTSTRAP_KEY
fi
export PARLEY_DEMO_URLS=$urls
if go_works; then exec go run ./scripts/demo; fi
docker_works || die "this needs Go $(sed -n 's/^go //p' go.mod) or later, or Docker"
network=()
if docker network inspect "$(checkout_name)" >/dev/null 2>&1; then network=(--network "$(checkout_name)"); fi
exec docker run --rm --init ${network[@]+"${network[@]}"} -v "$PWD:/src:ro" -w /src -v parley-go-build:/go/build \
	-v parley-go-mod:/go/pkg/mod -e GOCACHE=/go/build -e PARLEY_DEMO_URLS -e GOPROXY -e GOFLAGS=-buildvcs=false "$go_image" go run ./scripts/demo
