# Everything a user or CI does with this tree. `make test` and `make demo` are
# the two commands of the README's first screen; both install what is missing.

GO       ?= go
BIN      := bin
PROGRAMS := rootstock rootstock-cell rootstock-plugin
export PATH := $(abspath $(BIN)):$(shell $(GO) env GOPATH)/bin:$(PATH)

.PHONY: all build test lint demo bench bench-cycles bench-stores fault deps clean

all: build

# Static binaries: cells run them on stemcells that carry no libc of ours.
build:
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN)/ $(addprefix ./cmd/,$(PROGRAMS))

# Debian packages the tests and the demo run against; said aloud when missing.
deps:
	@.ci/packages

test: deps
	@.ci/test

lint:
	@.ci/lint

demo: deps build
	@e2e/demo/demo.sh

# Breaks servers, proxies, names, disks and processes under a mounted cell, kills
# and upgrades its daemon as often as docs/faults.md says, and prints what became
# of it.
fault: deps
	@cd e2e/fault && unshare --mount --propagation private -- $(GO) test -count=1 -timeout 60m -table -full

bench: deps build
	@e2e/bench/bench.sh

# Serving, replicating and publishing to a bucket, beside nginx and a directory.
bench-stores: deps build
	@python3 e2e/bench/stores.py

# A day's worth of containers made and deleted, then 200 alive: prints what is in
# use before and after, and the memory of each. ROOTSTOCK_TEST_TIER (image, tree)
# and ROOTSTOCK_TEST_ID_MAPPING (kernel, daemon) force how they get their trees.
bench-cycles: deps
	@ROOTSTOCK_TEST_CYCLES=10000 unshare --mount --propagation private -- \
		$(GO) test -count=1 -v -timeout 60m -run TestCycles -bench Alive -benchtime 1x ./e2e

clean:
	rm -rf $(BIN) .cache
