# The commands of this project. `make help` lists them.
SHELL := /bin/bash
BUILD := .build/release

.PHONY: help build demo check check-quick check-kernel bench simulate format clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## release binaries in .build/release, Swift runtime linked in
	@scripts/dependencies build
	swift build -c release --static-swift-stdlib

demo: ## two nodes on this machine: sync, writes, a crash, failover and back (KEEP=1 leaves them up)
	@scripts/dependencies demo
	@scripts/quietly "building (release)" swift build -c release --static-swift-stdlib
	@KEEP=$(KEEP) scripts/demo

check: ## everything that must be green
	@scripts/check all

check-quick: ## unit tests only, for the inner loop
	@scripts/check quick

check-kernel: ## Debian's kernel in a virtual machine is the peer: SCENARIOS="roles full-sync/ours", VERBOSE=1, KEEP=1
	@scripts/dependencies kernel
	@scripts/quietly "building (release)" swift build -c release --static-swift-stdlib
	@Tests/Kernel/run $(SCENARIOS)

bench: ## ratios against other ways to serve and mirror a disk, measured side by side
	@scripts/dependencies bench
	@scripts/quietly "building (release)" swift build -c release --static-swift-stdlib
	@Benchmarks/run

simulate: build ## two nodes, simulated disks and links, faults: SEEDS=100000 FROM=1
	$(BUILD)/replsim many $(or $(FROM),1) $(or $(SEEDS),100000)

format: ## the one format of all Swift sources
	swift format --in-place --recursive Sources Tests Package.swift

clean:
	rm -rf .build
