#!/usr/bin/env bash
# image.sh: the container image. IMAGE is its name; GOPROXY is handed on.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
docker build -t "${IMAGE:-parley:dev}" --build-arg "VERSION=$(version)" --build-arg "COMMIT=$(commit)" \
	--build-arg "SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 0)" \
	${GOPROXY:+--build-arg "GOPROXY=$GOPROXY"} .
