#!/usr/bin/env bash
# release.sh VERSION: everything that a release publishes, into dist/VERSION. It publishes nothing and changes nothing else.
#
#   parley_VERSION_OS_ARCH.tar.gz   the binaries, for each of PLATFORMS (linux/amd64 linux/arm64)
#   parley-VERSION.tgz              the chart, with that version
#   parley_VERSION.cdx.json         the bill of materials of all binaries (CycloneDX)
#   parley_VERSION.oci.tar          the image for all platforms, with its own bill of materials and provenance, where docker has buildx
#   BASE_IMAGES                     its base images, by digest
#   RELEASE_NOTES.md                the version's section of the changelog
#   SHA256SUMS, SHA256SUMS.sig      of all of it; signed where cosign is installed and COSIGN_KEY names a key
#
# The same commit gives the same bytes, but for the image's provenance, which says when it was built. See docs/releasing.md.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"

version=${1:-${VERSION:-}}
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$ ]] || die "make release VERSION=1.2.3 (or 1.2.3-rc.1): ${version:-no version} is none"
platforms=${PLATFORMS:-linux/amd64 linux/arm64}
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
commit=${COMMIT:-$(commit)}
out=${DIST:-dist}/$version
rm -rf "$out"
mkdir -p "$out"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# pack FILE FOLDER NAME: NAME of the folder as an archive in which nothing tells when, where or by whom it was made.
pack() {
	tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --mode='u+rw,go+r-w,a+X' --format=ustar -C "$2" -cf - "$3" | gzip -9 -n >"$1"
}

# notes prints the section of the version in the changelog, or, for what is no version yet (1.2.3-rc.1), the unreleased one.
notes() {
	local section=$version
	if ! grep -q "^## \[$version\]" CHANGELOG.md; then
		[[ $version == *-* ]] || die "CHANGELOG.md has no section [$version]: give [Unreleased] that name first"
		section=Unreleased
	fi
	awk -v s="## [$section]" 'index($0, s) == 1 { on = 1; next } /^## / { on = 0 } on' CHANGELOG.md | sed '/./,$!d'
}

say "== notes"
notes >"$out/RELEASE_NOTES.md"
[ -s "$out/RELEASE_NOTES.md" ] || die "the section of $version in CHANGELOG.md is empty"

observe=github.com/parley-chat/parley/internal/observe
binaries=()
for platform in $platforms; do
	os=${platform%/*} arch=${platform#*/}
	name=parley_${version}_${os}_$arch
	say "== binaries for $platform"
	mkdir -p "$work/$name"
	GOOS=$os GOARCH=$arch CGO_ENABLED=0 go build -trimpath -buildvcs=false \
		-ldflags "-s -w -X $observe.Version=$version -X $observe.Commit=$commit" -o "$work/$name/" ./cmd/...
	for program in cmd/*/; do binaries+=("$work/$name/$(basename "$program")"); done
	cp LICENSE README.md "$work/$name"
	pack "$out/$name.tar.gz" "$work" "$name"
done

say "== bill of materials"
CGO_ENABLED=0 go run -trimpath ./scripts/sbom parley "$version" "${binaries[@]}" >"$out/parley_$version.cdx.json"

say "== chart"
cp -R charts/parley "$work/parley"
sed -i "s/^version: .*/version: $version/; s/^appVersion: .*/appVersion: \"$version\"/" "$work/parley/Chart.yaml"
rm -f "$work/parley/README.md.gotmpl"
pack "$out/parley-$version.tgz" "$work" parley

# pinned IMAGE prints an image with the digest that its tag has now, or the image alone where the registry cannot be asked.
pinned() {
	local digest
	digest=$(docker buildx imagetools inspect "$1" --format '{{.Manifest.Digest}}' 2>/dev/null) || true
	[ -n "$digest" ] || say "   NOT PINNED: the digest of $1 cannot be had"
	printf '%s\n' "$1${digest:+@$digest}"
}

if [ -z "${NO_IMAGE:-}" ] && docker_works && docker buildx version >/dev/null 2>&1; then
	say "== image for ${platforms// /, }"
	go_base=$(pinned golang:1.26)
	base=$(pinned gcr.io/distroless/static-debian12:nonroot)
	printf '%s\n' "$go_base" "$base" >"$out/BASE_IMAGES"
	docker buildx build --build-arg "GO_IMAGE=$go_base" --build-arg "BASE_IMAGE=$base" --platform "${platforms// /,}" --sbom=true --provenance=mode=max \
		--build-arg "VERSION=$version" --build-arg "COMMIT=$commit" --build-arg "SOURCE_DATE_EPOCH=$SOURCE_DATE_EPOCH" \
		${GOPROXY:+--build-arg "GOPROXY=$GOPROXY"} --output "type=oci,dest=$out/parley_$version.oci.tar,rewrite-timestamp=true" .
else
	say "== NO IMAGE: there is no docker with buildx (or NO_IMAGE is set)"
fi

(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
if have cosign && [ -n "${COSIGN_KEY:-}" ]; then
	cosign sign-blob --yes --key "$COSIGN_KEY" --output-signature "$out/SHA256SUMS.sig" "$out/SHA256SUMS"
else
	say "== NOT SIGNED: there is no cosign, or COSIGN_KEY names no key"
fi
say "== $out"
(cd "$out" && ls -l >&2)
