# make help lists the targets
SHELL := /bin/bash
GO    ?= go
export CGO_ENABLED = 0
TAGS   = -tags urfave_cli_no_docs
PREFIX ?= /usr/local

# What the tests need from Debian, as COMMAND=PACKAGE.
NEEDS = busybox=busybox-static nft=nftables ip=iproute2 python3=python3 strace=strace \
	qemu-system-x86_64=qemu-system-x86 mke2fs=e2fsprogs cpio=cpio xz=xz-utils \
	systemctl=systemd dbus-daemon=dbus criu=criu iptables=iptables

.PHONY: build test lint unit integration vm-test bench install deps help

build: ## the static binary ./berth, and ./berth-oci, its OCI face alone, which starts faster
	$(GO) build $(TAGS) -trimpath -ldflags '-s -w' -o berth ./cmd/berth
	$(GO) build $(TAGS) -trimpath -ldflags '-s -w' -o berth-oci ./cmd/berth-oci

test: deps lint unit integration vm-test ## everything: lint, unit, integration as root, limits in a VM

deps: ## check what the tests need, install nothing
	@missing=; for n in $(NEEDS); do command -v $${n%%=*} >/dev/null || missing+=" $${n##*=}"; done; \
	[ -e /usr/lib/qemu/virtiofsd ] || missing+=" qemu-system-common"; \
	[ -e /usr/lib/systemd/user/dbus.socket ] || missing+=" dbus-user-session"; \
	[ -z "$$missing" ] || { echo "the tests need packages that are not there: apt-get install -y$$missing"; exit 1; }

lint: ## gofmt, go vet for amd64 and arm64, staticcheck
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "gofmt -w these: $$out"; exit 1; }
	$(GO) vet $(TAGS) ./...
	GOARCH=arm64 $(GO) vet $(TAGS) ./...
	$(GO) tool staticcheck $(TAGS) ./...

unit: ## unit and golden tests; those that need root say so when they skip
	$(GO) test $(TAGS) ./...

integration: build ## black-box tests of the built binary, as root
	integration/run ./berth

vm-test: build ## limits in a VM with cgroup v2 and every controller
	integration/vm/run -t 600 integration/vm/limits ./berth
	integration/vm/cgroups
	integration/vm/run -t 900 integration/vm/checkpoint ./berth

bench: build ## compare with what is installed of crun, runc, bwrap, podman
	bench/shell ./berth
	bench/oci ./berth-oci

install: build ## into PREFIX; a link berth-oci -> berth does the same as the second, slower
	install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin berth berth-oci

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | expand -t 14
