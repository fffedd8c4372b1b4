# syntax=docker/dockerfile:1
# One image with Parley's four processes, static: api, presence-watcher, receipt-worker and dispatcher in /usr/local/bin.
# The same sources and build arguments make the same image: nothing in it tells when or where it was built.
# A release pins both base images by their digests (scripts/release.sh).
ARG GO_IMAGE=golang:1.26
ARG BASE_IMAGE=gcr.io/distroless/static-debian12:nonroot
FROM --platform=$BUILDPLATFORM $GO_IMAGE AS build
WORKDIR /src
# GOPROXY names a module proxy where the build reaches no other network.
ARG GOPROXY
ENV GOTOOLCHAIN=local CGO_ENABLED=0 GOCACHE=/go/build
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
ARG COMMIT=unknown
# SOURCE_DATE_EPOCH, in seconds, is the time of all files, and of the image itself.
ARG SOURCE_DATE_EPOCH=0
# The platform of the image, which BuildKit sets; Go compiles for it on the platform of the build.
ARG TARGETOS TARGETARCH
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/go/build \
	observe=github.com/parley-chat/parley/internal/observe && \
	GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X $observe.Version=$VERSION -X $observe.Commit=$COMMIT" \
	-o /out/usr/local/bin/ ./cmd/api ./cmd/presence-watcher ./cmd/receipt-worker ./cmd/dispatcher && \
	find /out -exec touch -d "@$SOURCE_DATE_EPOCH" {} +

FROM $BASE_IMAGE
ARG VERSION=dev
ARG COMMIT=unknown
LABEL org.opencontainers.image.title=Parley \
	org.opencontainers.image.source=https://github.com/parley-chat/parley \
	org.opencontainers.image.licenses=Apache-2.0 \
	org.opencontainers.image.version=$VERSION \
	org.opencontainers.image.revision=$COMMIT
COPY --from=build /out/ /
# api on 8080; every process's own endpoints on 9090.
EXPOSE 8080 9090
CMD ["/usr/local/bin/api"]
