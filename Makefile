# make run    build, start with a page to try it on, print the URL
# make test   everything that must hold: vet, unit and whole-server tests, with and without the race detector
# make help   the rest

GO      ?= go
BIN     := bin/streaming-daemon
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
FRONT   ?= 127.0.0.1:8080
METRICS ?= 127.0.0.1:9090
FUZZTIME ?= 30s
PKG     ?= ./...

.PHONY: help run build test test-race test-plain lint fuzz bench bench-compare clean need-go

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

need-go:
	@command -v $(GO) >/dev/null || { echo "Go is needed: https://go.dev/dl/ (1.26 or newer; older ones from 1.21 on fetch it themselves)"; exit 1; }

build: need-go ## bin/streaming-daemon, static
	CGO_ENABLED=0 $(GO) build -trimpath -buildvcs=auto -ldflags '$(LDFLAGS)' -o $(BIN) ./cmd/streaming-daemon

run: build ## build and start on temporary sockets, with the page in place of Apache
	@dir=$$(mktemp -d) && trap 'rm -rf "$$dir"' EXIT && \
	echo "open http://$(FRONT)/ in a browser; Ctrl-C ends it" && \
	$(BIN) -socket "$$dir/stream.sock" -seqpacket-socket "$$dir/seqpacket.sock" \
	  -front $(FRONT) -metrics-addr $(METRICS) -shutdown-timeout 5s $(ARGS)

# netpoll's code differs between the two, so both runs are needed.
test: need-go ## vet, then all tests with and without the race detector
	$(GO) vet $(PKG)
	@if [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC)" >/dev/null; then $(MAKE) --no-print-directory test-race; \
	 else echo "left out: the tests under the race detector (they need a C compiler: apt-get install gcc libc6-dev)"; fi
	@$(MAKE) --no-print-directory test-plain

test-race: ## all tests under the race detector
	$(GO) test -race -timeout 8m $(PKG)

test-plain: ## all tests without it
	$(GO) test -timeout 8m $(PKG)

lint: need-go ## gofmt, vet, staticcheck
	@out=$$(gofmt -l $$(git ls-files '*.go')); [ -z "$$out" ] || { echo "gofmt would change: $$out"; exit 1; }
	$(GO) vet ./...
	$(GO) run honnef.co/go/tools/cmd/staticcheck@v0.8.2 ./...

fuzz: need-go ## each fuzz target for FUZZTIME (30s)
	@for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$target"; $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$pkg || exit 1; \
	  done; done

bench: build ## load the daemon: make bench ARGS='-scenario churn -streams 5000'
	$(GO) run ./bench -daemon $(BIN) $(ARGS)

bench-compare: build ## side by side with the bare epoll loop and the goroutine design; writes bench/RESULTS.md
	$(GO) run ./bench compare $(ARGS)

clean: ## what was built
	rm -rf bin dist
