#!/usr/bin/env bash
# test-cluster.sh: the chart on a real cluster, the one that KUBECONFIG (or kubectl's own settings) names. It builds the
# images with docker and brings them to the cluster with the command in PARLEY_CLUSTER_LOAD, which gets their names:
# "kind load docker-image", "minikube image load"; empty where the cluster sees docker's images. It makes namespaces of its
# own and removes them. TESTFLAGS goes to go test.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

skip() {
	say "SKIPPED, no cluster test was run: $*"
	exit 0
}
for program in kubectl helm docker curl go; do have "$program" || skip "there is no $program"; done
kubectl get --raw /readyz >/dev/null 2>&1 || skip "no cluster answers; KUBECONFIG names one"
docker_works || skip "no Docker engine answers"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tag=test-$(date +%s)
export PARLEY_TEST_IMAGE=parley/test:$tag PARLEY_TEST_IMAGE_NEXT=parley/test:$tag-next PARLEY_TEST_IMAGE_LOAD=parley/test:$tag-load \
	PARLEY_TEST_IMAGE_STORAGE=parley/test:$tag-storage

say '== the image'
IMAGE=$PARLEY_TEST_IMAGE scripts/image.sh
size=$(docker save "$PARLEY_TEST_IMAGE" | gzip | wc -c)
say "   $size bytes compressed"
[ "$size" -lt 40000000 ] || die "the image has more than 40 MB compressed; test/links_test.go tells of what must not be linked"
# The next version: other code, and a migration more.
cp -a Dockerfile .dockerignore go.mod go.sum cmd internal migrations "$work"
printf -- '-- +goose Up\nALTER TABLE users ADD COLUMN of_the_test text;\n-- +goose Down\nALTER TABLE users DROP COLUMN of_the_test;\n' >"$work/migrations/99999_test.sql"
docker build -t "$PARLEY_TEST_IMAGE_NEXT" --build-arg VERSION=next ${GOPROXY:+--build-arg "GOPROXY=$GOPROXY"} "$work"
# An older release: its chart and its image. PARLEY_TEST_OLD names another commit; without git history the test is skipped.
old=${PARLEY_TEST_OLD:-dc26b3d}
if git cat-file -e "$old^{commit}" 2>/dev/null; then
	say "== the older release $old"
	mkdir "$work/old"
	git archive "$old" | tar -x -C "$work/old"
	export PARLEY_TEST_IMAGE_OLD=parley/test:$tag-old PARLEY_TEST_CHART_OLD=$work/old/charts/parley
	docker build -t "$PARLEY_TEST_IMAGE_OLD" --build-arg VERSION=old ${GOPROXY:+--build-arg "GOPROXY=$GOPROXY"} "$work/old"
fi
mkdir "$work/load"
CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$work/load/load" ./test/cluster/load
docker build -t "$PARLEY_TEST_IMAGE_LOAD" -f test/cluster/load/Dockerfile "$work/load"
mkdir "$work/storage"
cp "$(scripts/storage.sh)" "$work/storage/versitygw"
printf 'FROM busybox:1.36\nENV PATH=/usr/local/bin:/bin\nCOPY versitygw /usr/local/bin/versitygw\n' >"$work/storage/Dockerfile"
docker build -t "$PARLEY_TEST_IMAGE_STORAGE" "$work/storage"
# shellcheck disable=SC2086 # a command and its arguments
if [ -n "${PARLEY_CLUSTER_LOAD:-}" ]; then $PARLEY_CLUSTER_LOAD "$PARLEY_TEST_IMAGE" "$PARLEY_TEST_IMAGE_NEXT" "$PARLEY_TEST_IMAGE_LOAD" "$PARLEY_TEST_IMAGE_STORAGE" ${PARLEY_TEST_IMAGE_OLD:-}; fi

say '== the tests'
# shellcheck disable=SC2086 # several flags
go test -count 1 -v -timeout 60m ${TESTFLAGS:-} ./test/cluster
