#!/usr/bin/env bash
# storage.sh: builds the S3 gateway of development and tests, at the version of test/storage/go.mod, once a machine, and prints where
# it is.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

version=$(sed -n 's/^.*github.com\/versity\/versitygw \(v[^ ]*\).*$/\1/p' test/storage/go.mod)
folder=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/parley/versitygw-$version

if [ ! -x "$folder/versitygw" ]; then
	say "Building versitygw $version, the S3 storage of development"
	mkdir -p "$folder"
	built=$(mktemp "$folder/build.XXXXXX")
	trap 'rm -f "$built"' EXIT
	(cd test/storage && CGO_ENABLED=0 GOFLAGS="" go build -o "$built" github.com/versity/versitygw/cmd/versitygw)
	chmod +x "$built"
	mv "$built" "$folder/versitygw" # another script may build it too
fi
echo "$folder/versitygw"
