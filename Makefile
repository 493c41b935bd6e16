# `make demo` and `make test` set up a Debian 12 or Ubuntu 24.04 machine by themselves; only Rust is presumed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export TANDEM_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tandem
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export TANDEM_SHIM ?= $(CARGO_TARGET_DIR)/release/containerd-shim-tandem-v1
export TANDEM_INSTALLER ?= $(CARGO_TARGET_DIR)/release/tandem-node-installer
export TANDEM_GUESTS ?= $(TANDEM_CACHE)/guests
export TANDEM_CONTAINERD_V2 ?= $(TANDEM_CACHE)/containerd-2/bin

# The shim runs on any distribution and maps into guests: static, so that nothing is loaded at its start, and at a fixed
# address, so that no page of it is made private by relocations (docs/architecture.md has the numbers).
STATIC = -C target-feature=+crt-static -C relocation-model=static
CARGO = LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH=$$(pkg-config --variable=libdir libseccomp) cargo
BUILD_SHIM = $(CARGO) rustc --release --locked -p containerd-shim-tandem --bin containerd-shim-tandem-v1 -- $(STATIC)
BUILD_INSTALLER = $(CARGO) rustc --release --locked -p tandem-node-installer --bin tandem-node-installer -- -C target-feature=+crt-static
BUILD_TOOLS = $(CARGO) build --release --locked -p tandem-integration --bins

# The installer is tested apart from the rest: together with it cargo would choose other features for what they share,
# and compile the engine a second time.
.PHONY: help build demo test unit integration differential conformance test-k8s test-kind test-k3d cluster-up cluster-down lint fmt fuzz bench clean
help: ## Show what there is
	@grep -hE '^[a-z0-9 -]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## Build the shim and the node installer
	@integration/setup shim
	$(BUILD_SHIM)
	$(BUILD_INSTALLER)

demo: ## Run Wasm and Linux containers side by side on a private containerd
	@integration/setup shim containerd
	@echo "building the shim (the first time takes some minutes)"
	$(BUILD_SHIM)
	$(BUILD_TOOLS)
	@integration/guests/build "$(TANDEM_GUESTS)" "$(TANDEM_CACHE)"
	@$(CARGO_TARGET_DIR)/release/tandem-demo

test: unit integration ## Run all tests, on containerd 1.x and 2.x

unit: ## Run the unit tests
	@integration/setup shim
	$(CARGO) test --release --locked --workspace --exclude tandem-integration --exclude tandem-node-installer
	$(CARGO) test --release --locked -p tandem-node-installer --lib

integration: ## Run the integration tests against both generations of containerd
	@integration/setup shim containerd containerd-2 containerd-versions runc
	@integration/guests/build "$(TANDEM_GUESTS)" "$(TANDEM_CACHE)"
	$(BUILD_SHIM)
	$(BUILD_INSTALLER)
	$(CARGO) test --release --locked --no-fail-fast -p tandem-integration
	$(CARGO) test --release --locked -p tandem-node-installer --test roots
	@echo "the same hosts, judged by containerd 1.7 and 2.0"
	TANDEM_CONTAINERD_V1=$(TANDEM_CACHE)/containerd-1.7/bin/containerd TANDEM_CONTAINERD_V2=$(TANDEM_CACHE)/containerd-2.0/bin \
		$(CARGO) test --release --locked -p tandem-node-installer --test roots

# Specs by chance, others each time: the seed that is printed brings them back (SEED=N SPECS=N). ONLY=mounts/ runs the
# hand-written specs of that name instead, UPDATE=1 writes the table of known differences.
SEED ?= $(shell shuf -i 1-999999999 -n 1)
SPECS ?= 300
differential: ## Compare with runc what processes see, for many random specs
	@integration/setup shim containerd containerd-2 runc
	@integration/guests/build "$(TANDEM_GUESTS)" "$(TANDEM_CACHE)"
	$(BUILD_SHIM)
	$(if $(UPDATE),UPDATE=1) TANDEM_DIFFERENTIAL="$(ONLY)" TANDEM_DIFFERENTIAL_SEED=$(SEED) TANDEM_DIFFERENTIAL_SPECS=$(SPECS) \
		$(CARGO) test --release --locked -p tandem-integration --test differential -- --nocapture $(if $(ONLY),specs_of)

conformance: ## Run Kubernetes' CRI conformance suite with runc and with Tandem (UPDATE=1 writes docs/conformance.md)
	@integration/setup shim containerd containerd-2 conformance
	$(BUILD_SHIM)
	$(BUILD_TOOLS)
	$(CARGO_TARGET_DIR)/release/tandem-conformance --reports $(CARGO_TARGET_DIR)/conformance \
		--document docs/conformance.md $(if $(UPDATE),--update)

# All that the tests on Kubernetes need but a cluster.
BUILD_FOR_CLUSTERS = integration/guests/build --languages "$(TANDEM_GUESTS)" "$(TANDEM_CACHE)" && \
	$(BUILD_SHIM) && $(BUILD_INSTALLER) && $(BUILD_TOOLS)

test-k8s: ## Run the tests on a private Kubernetes of real components (UPDATE=1 writes docs/conformance.md)
	@integration/setup shim containerd containerd-2 kubernetes
	$(BUILD_FOR_CLUSTERS)
	integration/cluster/test local

test-kind test-k3d: test-%: ## The same on kind or k3d, which need Docker
	@integration/setup shim
	$(BUILD_FOR_CLUSTERS)
	integration/cluster/test $*

cluster-up: ## Bring up a private Kubernetes with its registry (TANDEM_CLUSTER_DIR says where)
	@integration/setup shim containerd containerd-2 kubernetes
	$(BUILD_FOR_CLUSTERS)
	integration/cluster/local up
	$(CARGO_TARGET_DIR)/release/tandem-cluster-images \
		"$$(sed -n 's/^TANDEM_REGISTRY=//p' "$${TANDEM_CLUSTER_DIR:-$${TMPDIR:-/tmp}/tandem-cluster}/env")"

cluster-down: ## Remove it
	integration/cluster/local down

lint: ## Check formatting, lints, licences and advisories
	@integration/setup shim lint
	cargo fmt --all --check
	$(CARGO) clippy --release --locked --workspace --all-targets -- -D warnings
	integration/audit

# Targets and seconds for each: make fuzz FUZZ="bundle wire" FUZZ_SECONDS=600. The sanitizers that cargo-fuzz wants are in
# stable Rust too, behind its bootstrap switch.
FUZZ ?= bundle options bootstrap wire requests cli image artifact
FUZZ_SECONDS ?= 60
fuzz: ## Fuzz the parsers, a minute each
	@integration/setup shim fuzz
	cd shim && for target in $(FUZZ); do \
		mkdir -p fuzz/corpus/$$target; \
		RUSTC_BOOTSTRAP=1 PATH="$(TANDEM_CACHE)/cargo-fuzz/bin:$$PATH" CARGO_TARGET_DIR=$(TANDEM_CACHE)/fuzz-target \
			$(CARGO) fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=$(FUZZ_SECONDS); \
	done

fmt: ## Format the sources
	cargo fmt --all

bench: ## Compare with runc, with a plain runwasi shim and with the floor
	@integration/setup shim containerd containerd-2
	@integration/guests/build "$(TANDEM_GUESTS)" "$(TANDEM_CACHE)"
	$(BUILD_SHIM)
	$(BUILD_TOOLS) --config profile.release.package.tandem-integration.opt-level=3
	CARGO_TARGET_DIR=$(TANDEM_CACHE)/baseline-target cargo build --release --locked --manifest-path integration/baseline/Cargo.toml
	CARGO_TARGET_DIR=$(TANDEM_CACHE)/floor-target cargo rustc --release --locked --manifest-path integration/floor/Cargo.toml -- $(STATIC)
	$(CARGO_TARGET_DIR)/release/tandem-bench

clean: ## Remove the build products of this tree
	cargo clean
