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
DIST    ?= dist
ARCH    ?= $(shell $(GO) env GOARCH)
NFPM    := $(GO) tool -modfile=deploy/deb/nfpm.mod nfpm
RELEASE_ARCHS := amd64 arm64
# Debian wants a digit first; a checkout without a tag is before any release. SOURCE_DATE_EPOCH: the same commit gives
# the same package.
DEB_VERSION    ?= $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//; s/-/+/; s/-/./g' | grep . || echo "0.0.0~git$$(git log -1 --format=%cd.%h --date=format:%Y%m%d%H%M 2>/dev/null)")
DEB_MAINTAINER ?= streaming-daemon maintainers <root@localhost>
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH

.PHONY: help run build test left-out test-race test-plain lint fuzz bench bench-compare man deb release clean need-go

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

# netpoll's code differs under the race detector, so what stands on it is tested without it too; so is what is left out
# under it.
BOTH_WAYS := ./loop ./conn ./fdrecv ./sse/... ./cmd/streaming-daemon ./cmd/streaming-daemon/upgrade ./cmd/streaming-daemon/packagetest

test: need-go ## vet, all tests under the race detector, then without it those that it changes
	$(GO) vet $(PKG)
	@if [ "$$($(GO) env CGO_ENABLED)" = 1 ] && command -v "$$($(GO) env CC)" >/dev/null; then \
	   $(MAKE) --no-print-directory test-race && $(MAKE) --no-print-directory test-plain PKG='$(BOTH_WAYS)'; \
	 else \
	   echo "left out: the tests under the race detector (they need a C compiler: apt-get install gcc libc6-dev)"; \
	   $(MAKE) --no-print-directory test-plain; \
	 fi
	@$(MAKE) --no-print-directory left-out

# Tests against real programs skip themselves where these are missing: say which.
left-out: ## the tests that this machine cannot run, and what they need
	@need() { PATH="$$PATH:/usr/sbin" command -v "$$1" >/dev/null 2>&1 || ls /usr/sbin/$$1* >/dev/null 2>&1 || \
	  echo "left out: $$3 (apt-get install $$2)"; }; \
	need cc gcc "bench/floor, the bare loop in C"; \
	need apache2 apache2 "a real Apache"; need php-fpm php-fpm "PHP under Apache's event MPM"; \
	ls /usr/lib/apache2/modules/libphp*.so >/dev/null 2>&1 || \
	  echo "left out: PHP under Apache's prefork MPM (apt-get install libapache2-mod-php)"; \
	need chromium chromium "a real browser"; need prometheus prometheus "a real Prometheus"; \
	need promtool prometheus "the rules' own tests"; need victoria-metrics victoria-metrics "a real VictoriaMetrics"; \
	need strace strace "the count of syscalls"; need groff groff-base "the man page"; need logrotate logrotate "log rotation"; \
	[ "$$(id -u)" = 0 ] || echo "left out: owner and group of sockets, package installation (they need root)"

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

man: need-go ## the manual page, dist/build/streaming-daemon.8.gz: its options are those of -h
	@mkdir -p $(DIST)/build
	$(GO) run -buildvcs=false ./cmd/streaming-daemon -h 2>/dev/null | awk -f deploy/man/options.awk >$(DIST)/build/options
	@test -s $(DIST)/build/options
	sed -e '/^@OPTIONS@$$/{r $(DIST)/build/options' -e 'd}' -e 's|@VERSION@|$(VERSION)|' \
	  -e "s|@DATE@|$$(date -u -d @$(SOURCE_DATE_EPOCH) +%Y-%m-%d)|" \
	  deploy/man/streaming-daemon.8.in | gzip -9n >$(DIST)/build/streaming-daemon.8.gz

deb: man ## a Debian package in dist/: make deb ARCH=arm64
	CGO_ENABLED=0 GOOS=linux GOARCH=$(ARCH) $(GO) build -trimpath -buildvcs=auto -ldflags '$(LDFLAGS)' \
	  -o $(DIST)/build/$(ARCH)/streaming-daemon ./cmd/streaming-daemon
	DIST='$(DIST)' DEB_ARCH=$(ARCH) DEB_VERSION='$(DEB_VERSION)' DEB_MAINTAINER='$(DEB_MAINTAINER)' \
	  $(NFPM) package --config deploy/deb/nfpm.yaml --packager deb --target $(DIST)/

# From a checkout, so that -version can tell the commit; go fails otherwise.
release: need-go ## binaries and Debian packages for amd64 and arm64 in dist/, with SHA256SUMS
	rm -rf $(DIST)
	@for arch in $(RELEASE_ARCHS); do \
	  echo "build $$arch"; \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -buildvcs=true -ldflags '$(LDFLAGS)' \
	    -o $(DIST)/streaming-daemon-linux-$$arch ./cmd/streaming-daemon && \
	  $(MAKE) --no-print-directory deb ARCH=$$arch || exit 1; \
	done
	rm -rf $(DIST)/build
	cd $(DIST) && sha256sum * >SHA256SUMS

clean: ## what was built
	rm -rf bin dist
