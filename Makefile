# Every target that has a ## text is listed by make help. CI runs `make test`.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run demo test test-cluster test-engines bench bench-smoke chart page fmt lint build image release clean

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 16

run: ## Parley on this machine, with two api pods and people to try it with, until Ctrl-C (SEED=off for an empty one)
	@scripts/run.sh

demo: ## two people chat over two pods of what make run started, and a product brings its own user and bot (PARLEY_DEMO_URLS names others)
	@scripts/demo.sh

test: ## all checks and tests, with services of their own (PKGS=./internal/message TESTFLAGS='-run Send -v')
	@scripts/with-services.sh scripts/checks.sh $(PKGS)

test-cluster: ## the chart on the cluster of KUBECONFIG (PARLEY_CLUSTER_LOAD='kind load docker-image' brings it the image)
	@scripts/test-cluster.sh

test-engines: ## the process tests on Redis Cluster, Sentinel, PgBouncer and Valkey (ENGINES=pgbouncer TESTFLAGS='-run Sync')
	@scripts/with-services.sh scripts/engines.sh

bench: ## the benchmarks beside their goals, with services of their own (BENCH=Send TESTFLAGS='-count 3')
	@scripts/with-services.sh --durable scripts/bench.sh

bench-smoke: ## each benchmark and each scenario of parley-bench once, small: do they work, and is what they count right
	@scripts/with-services.sh scripts/bench-smoke.sh ./bench/parley-bench

chart: ## write anew what is made for the chart: goldens, README, copies of ops/
	@cd test/chart && go test . -count 1 -update

page: ## build the pages of web/ anew, into internal/web/dist and scripts/playground/dist (needs Node)
	@cd clients && npm ci --silent --no-audit --no-fund --ignore-scripts
	@node web/build.mjs

fmt: ## format the Go code
	@gofmt -w .

lint: ## golangci-lint, which is built first, once per machine, in some minutes
	@scripts/lint.sh

build: ## the four binaries, into bin/
	@scripts/build.sh

image: ## the container image (IMAGE=parley:dev)
	@scripts/image.sh

release: ## everything that a release publishes, into dist/ (VERSION=1.2.3)
	@scripts/release.sh $(VERSION)

clean: ## remove what make run and make build left, the data included
	@scripts/clean.sh

export IMAGE TESTFLAGS ENGINES BENCH SEED
