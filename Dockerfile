# syntax=docker/dockerfile:1
# One image with Parley's three processes, static: api, presence-watcher and receipt-worker in /usr/local/bin.
FROM golang:1.26 AS build
WORKDIR /src
ARG GOPROXY
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
ARG VERSION=dev
ARG COMMIT=unknown
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
	observe=github.com/parley-chat/parley/internal/observe && \
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X $observe.Version=$VERSION -X $observe.Commit=$COMMIT" -o /out/ \
	./cmd/api ./cmd/presence-watcher ./cmd/receipt-worker

FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/ /usr/local/bin/
# api on 8080; every process's own endpoints on 9090.
EXPOSE 8080 9090
CMD ["/usr/local/bin/api"]
