# `make demo` and `make test` set up a fresh Debian 12 or Ubuntu 24.04 machine by themselves; only Rust is presumed.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export TANDEM_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tandem
export CARGO_TARGET_DIR ?= $(CURDIR)/target
export TANDEM_SHIM ?= $(CARGO_TARGET_DIR)/release/containerd-shim-tandem-v1
export TANDEM_GUESTS ?= $(TANDEM_CACHE)/guests
export TANDEM_CONTAINERD_V2 ?= $(TANDEM_CACHE)/containerd-2/bin

.PHONY: help build demo test unit integration lint fmt bench clean
help: ## Show what there is
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## Build the shim
	@integration/setup shim
	cargo build --release --locked -p containerd-shim-tandem

demo: ## Run Wasm and Linux containers side by side on a private containerd
	@integration/setup shim containerd
	@echo "building the shim (the first time takes some minutes)"
	cargo build --release --locked --workspace --bins
	@integration/guests/build "$(TANDEM_GUESTS)" "$(TANDEM_CACHE)"
	@$(CARGO_TARGET_DIR)/release/tandem-demo

test: unit integration ## Run all tests, on containerd 1.x and 2.x

unit: ## Run the unit tests
	@integration/setup shim
	cargo test --release --locked --workspace --exclude tandem-integration

integration: ## Run the integration tests against both generations of containerd
	@integration/setup shim containerd containerd-2
	@integration/guests/build "$(TANDEM_GUESTS)" "$(TANDEM_CACHE)"
	cargo build --release --locked --workspace
	cargo test --release --locked -p tandem-integration

lint: ## Check formatting, lints, licences and advisories
	@integration/setup shim lint
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	integration/audit

fmt: ## Format the sources
	cargo fmt --all

bench: ## Compare with runc, with a plain runwasi shim and with the floor
	@integration/setup shim containerd containerd-2
	@integration/guests/build "$(TANDEM_GUESTS)" "$(TANDEM_CACHE)"
	cargo build --release --locked --workspace
	CARGO_TARGET_DIR=$(TANDEM_CACHE)/baseline-target cargo build --release --locked --manifest-path integration/baseline/Cargo.toml
	CARGO_TARGET_DIR=$(TANDEM_CACHE)/floor-target cargo build --release --locked --manifest-path integration/floor/Cargo.toml
	$(CARGO_TARGET_DIR)/release/tandem-bench

clean: ## Remove the build products of this tree
	cargo clean
