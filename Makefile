# Builds, checks and installs op-dbus. `make` lists the targets.
#
# The programs are linked static: one build runs in any initramfs and guest. An
# explicit target keeps that flag away from build scripts and proc-macros. The
# early-boot programs are built apart from the others, so that no feature
# another crate turns on in a shared dependency makes them larger.

SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

TARGET := x86_64-unknown-linux-gnu
CARGO  := cargo
STATIC := -C target-feature=+crt-static
# Position-dependent: 95 KiB less in every initramfs, which is what keeps the
# activator within its budget.
SMALL  := $(STATIC) -C relocation-model=static
BUILD  := $(CARGO) build --locked --target $(TARGET)
OUT    := target/$(TARGET)
BOOT   := $(OUT)/boot
REL    := $(OUT)/release

DESTDIR :=
PREFIX  := /usr

.DEFAULT_GOAL := help

##@ Building

.PHONY: help
help: ## List the targets
	@awk -f scripts/make-help.awk $(MAKEFILE_LIST)

.PHONY: build
build: build-boot build-tools ## Build every program, static

.PHONY: build-boot
build-boot: ## Build only what runs in early boot: activator, generator
	RUSTFLAGS='$(SMALL)' $(BUILD) --profile boot -p op-dbus-activator
	RUSTFLAGS='$(SMALL)' $(BUILD) --profile boot -p op-dbus-systemd-generator

.PHONY: build-tools
build-tools: ## Build only the CLI, the agent and the test programs
	RUSTFLAGS='$(STATIC)' $(BUILD) --release -p op-dbus-staging -p op-dbus-agent
	RUSTFLAGS='$(STATIC)' $(BUILD) --release -p op-dbus-vm -p op-dbus-vm-guest -p op-dbus-demo
	RUSTFLAGS='$(STATIC)' $(BUILD) --release -p op-dbus-crash

.PHONY: check-static
check-static: ## Fail unless the built programs are static and small enough
	scripts/check-static $(BOOT)/op-dbus-activate:1536 $(BOOT)/op-dbus-generator:1536 \
	  $(REL)/op-dbus-stage $(REL)/op-dbus-agent $(REL)/op-dbus-vm-guest $(REL)/op-dbus-demo $(REL)/op-dbus-crash

##@ Installing

.PHONY: install
install: ## Install what was built: DESTDIR=, PREFIX=/usr
	DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' BOOT='$(BOOT)' RELEASE='$(REL)' scripts/install

##@ Testing

# Tests mount file systems: built as whoever runs make, run as root.
ifneq ($(shell id -u),0)
AS_ROOT := sudo
export CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER := sudo --preserve-env
endif

.PHONY: deps-build deps-fuzz deps-vm
deps-build:
	@scripts/deps build
deps-fuzz:
	@scripts/deps fuzz
deps-vm:
	@scripts/deps vm

# A newer clippy knows new lints: they fail CI, which has a certain toolchain,
# and only warn whoever has another. Distributions package both tools apart.
DENY := $(if $(CI),-- --deny warnings)

.PHONY: lint
lint: deps-build ## Formatting and lints; cargo-deny where it is installed
	@if $(CARGO) fmt --version > /dev/null 2>&1; then $(CARGO) fmt --all --check; \
	  else echo "lint: no rustfmt, formatting is not checked"; fi
	@if $(CARGO) clippy --version > /dev/null 2>&1; then $(CARGO) clippy --locked --workspace --all-targets --quiet $(DENY); \
	  else echo "lint: no clippy, lints are not checked"; fi
	@if command -v cargo-deny > /dev/null; then cargo deny check licenses bans sources; fi

.PHONY: test-fast
test-fast: lint ## Everything without a virtual machine
	scripts/run-tests $(CARGO) test --locked --workspace --exclude op-dbus-tests

.PHONY: test-model
test-model: deps-build ## The state machine searched to closure, with two and three versions too (minutes)
	scripts/run-tests $(CARGO) test --locked -p op-dbus-bootstate --test model -- --include-ignored --nocapture

SECONDS := 60
TARGETS :=
.PHONY: fuzz
fuzz: deps-fuzz ## Fuzz what reads foreign data: SECONDS=60 a target, TARGETS=
	scripts/fuzz $(SECONDS) $(TARGETS)

NAMES :=
JOBS  := 1
.PHONY: mutants
mutants: deps-build ## Remove each durability or check step in turn, expect a failing test: NAMES=, JOBS=
	$(CARGO) run --locked --quiet -p op-dbus-mutants -- run --jobs $(JOBS) $(NAMES)

.PHONY: test-differential
test-differential: deps-build ## Receiving beside btrfs receive: every tree, 60 seeds, two Debian roots
	OP_DBUS_COMPLETE=1 OP_DBUS_MMDEBSTRAP=1 scripts/run-tests $(CARGO) test --locked -p op-dbus-sendstream --test differential -- --include-ignored --nocapture

STATES := 2000
SEED   := 1
.PHONY: crash-test
crash-test: deps-build build-boot build-tools ## Cut the power in STATES=2000 ways, chosen by SEED=1
	$(AS_ROOT) $(REL)/op-dbus-crash run --states $(STATES) --seed $(SEED)

.PHONY: crash-test-release
crash-test-release: ## What a release is to see: 100,000 states, an hour or more on an idle machine
	$(MAKE) --no-print-directory crash-test STATES=100000

.PHONY: test
test: deps-vm lint build check-static ## All tests; in QEMU at most 25 boots of Debian
	@$(MAKE) --no-print-directory fuzz SECONDS=10
	OP_DBUS_CRASH_STATES=$(STATES) scripts/run-tests $(CARGO) test --locked --workspace --no-fail-fast

.PHONY: test-vm-all
test-vm-all: deps-vm build check-static ## Every scenario on every kind of device
	OP_DBUS_VM_ALL=1 scripts/run-tests $(CARGO) test --locked -p op-dbus-tests --no-fail-fast

##@ Looking at it

.PHONY: demo
demo: deps-vm build ## A real upgrade, and a broken one falling back, in QEMU
	$(AS_ROOT) $(REL)/op-dbus-vm demo

.PHONY: pictures
pictures: deps-build ## Draw what a person sees on a terminal into docs/img
	mkdir -p docs/img
	OP_DBUS_PICTURES='$(CURDIR)/docs/img' $(CARGO) test --locked --quiet -p op-dbus-staging --test device -- --ignored pictures::

.PHONY: bench
bench: deps-vm build ## Activation, hand-over, signed receive, audit log and tree digest beside the usual tools
	OP_DBUS_ACTIVATE='$(CURDIR)/$(BOOT)/op-dbus-activate' $(CARGO) bench --locked --quiet -p op-dbus-activator --bench activation
	OP_DBUS_ACTIVATE='$(CURDIR)/$(BOOT)/op-dbus-activate' $(CARGO) bench --locked --quiet -p op-dbus-activator --bench handover
	OP_DBUS_STAGE='$(CURDIR)/$(REL)/op-dbus-stage' $(CARGO) bench --locked --quiet -p op-dbus-staging --bench receive
	OP_DBUS_STAGE='$(CURDIR)/$(REL)/op-dbus-stage' $(CARGO) bench --locked --quiet -p op-dbus-staging --bench audit
	$(CARGO) bench --locked --quiet -p op-dbus-release --bench tree

CSV :=
.PHONY: bench-upgrades
bench-upgrades: deps-build build-boot ## Two hundred upgrades in a row, and what they leave: CSV=file
	OP_DBUS_ACTIVATE='$(CURDIR)/$(BOOT)/op-dbus-activate' OP_DBUS_UPGRADES_CSV='$(abspath $(CSV))' \
	  $(CARGO) test --locked --quiet -p op-dbus-staging --test device -- --ignored --nocapture upgrades::
