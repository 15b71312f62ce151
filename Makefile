# The commands of this project. `make help` lists them.
SHELL := /bin/bash
BUILD := .build/release

# Where `make install` puts things; a packager sets DESTDIR, too.
PREFIX ?= /usr/local

.PHONY: help build install uninstall deb demo check check-quick check-slow check-kernel check-machine check-cluster bench simulate manual format clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

build: ## release binaries in .build/release, Swift runtime linked in
	@scripts/dependencies build
	scripts/build

install: $(BUILD)/replctl $(BUILD)/replicad ## programs, units, manual: PREFIX=/usr/local DESTDIR=... WITH_DRBD_NAMES=1 for drbdadm and its like
	@DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) WITH_DRBD_NAMES=$(WITH_DRBD_NAMES) scripts/install install

uninstall: ## the opposite, with the same PREFIX and DESTDIR
	@DESTDIR=$(DESTDIR) PREFIX=$(PREFIX) scripts/install uninstall

deb: ## Debian packages in .build/packages: replica, and replica-drbd-names with the names of DRBD's tools
	@scripts/dependencies packaging
	@scripts/quietly "building packages" debian/rules binary
	@ls .build/packages/*.deb

$(BUILD)/replctl $(BUILD)/replicad:
	@scripts/dependencies build
	scripts/build

demo: ## two nodes on this machine: sync, writes, a crash, failover and back (KEEP=1 leaves them up)
	@scripts/dependencies demo
	@scripts/quietly "building (release)" scripts/build
	@KEEP=$(KEEP) scripts/demo

check: ## everything that must be green
	@scripts/check all

check-quick: ## unit tests only, for the inner loop
	@scripts/check quick

check-slow: ## what is left out of check: whole machines with /dev/drbd0, packages in a clean Debian, systemd, cluster managers (root)
	@scripts/check slow

check-kernel: ## Debian's kernel in a virtual machine is the peer: SCENARIOS="roles full-sync/ours", VERBOSE=1, KEEP=1
	@scripts/dependencies kernel
	@scripts/quietly "building (release)" scripts/build
	@Tests/Kernel/run $(SCENARIOS)

check-machine: ## two whole virtual machines: file systems on /dev/drbd0, killed daemons, power cuts: SCENARIOS="kill power-cuts/one", KILLS=50 CUTS=30
	@scripts/dependencies machine
	@scripts/quietly "building (release)" scripts/build
	@Tests/Machine/run $(SCENARIOS)

check-cluster: ## two nodes under Pacemaker and Heartbeat, in namespaces (root): SCENARIOS="stonith", ROUNDS=20 cuts their links more often
	@scripts/dependencies cluster
	@scripts/quietly "building (release)" scripts/build
	@for scenario in $(or $(SCENARIOS),pacemaker linbit fencing stonith heartbeat); do echo "--- $$scenario" && Tests/Cluster/$$scenario.sh || exit 1; done

bench: ## ratios against other ways to serve and mirror a disk, measured side by side
	@scripts/dependencies bench
	@scripts/quietly "building (release)" scripts/build
	@Benchmarks/run

simulate: build ## two nodes, simulated disks and links, faults: SEEDS=100000 FROM=1
	$(BUILD)/replsim many $(or $(FROM),1) $(or $(SEEDS),100000)

manual: ## manual pages and completions from the tables of replctl
	@scripts/quietly "building (release)" scripts/build --product replctl
	@for page in replctl.8 replicad.8 replica.conf.5; do $(BUILD)/replctl sh-manual $$page >etc/man/$$page; done
	@$(BUILD)/replctl sh-manual completion >etc/bash-completion/replctl

format: ## the one format of all Swift sources
	swift format --in-place --recursive Sources Tests Package.swift

clean:
	rm -rf .build
