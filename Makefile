# One set of commands: contributors and CI use the same. `make help` lists them.
CARGO ?= cargo
SETUP := tests/setup.sh
# Most tests wait for etcd, NATS and S3: there are more of them at a time than cores.
export RUST_TEST_THREADS ?= $(shell echo $$((2 * $$(nproc))))

.PHONY: help setup tools build fmt lint test test-all demo bench deny coverage deb

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what building and testing need (Debian), or print the one command that does
	@$(SETUP) test
	@tests/releases.sh

tools:
	@$(SETUP)

build: tools ## build the three programs, optimised
	$(CARGO) build --locked --release --bins -p backstay-agent -p backstay-coordinator -p backstayctl

fmt: ## format the code
	$(CARGO) fmt --all

lint: tools ## rustfmt and clippy, no warnings allowed
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

test: setup ## every test, against real etcd, NATS and S3; their core also on older releases of etcd and NATS
	CARGO="$(CARGO)" tests/suite.sh

test-all: setup ## every test on every release of etcd and NATS
	CARGO="$(CARGO)" tests/suite.sh all

# The same build as the tests': what one has compiled the other takes.
demo: tools ## walk the documentation page, step by step, on real parts (KEEP=1 leaves them running)
	$(CARGO) build --locked --workspace --bins
	@"$${CARGO_TARGET_DIR:-target}/debug/backstay-demo"

bench: tools ## compare with etcdctl, for 100 MiB and 1 GiB
	$(CARGO) build --locked --release --workspace --bins
	@$(CARGO) run --locked --release -q --bin backstay-bench

deny: tools ## check licences, bans, sources and known advisories of dependencies; builds cargo-deny first where it is missing
	CARGO="$(CARGO)" tests/deny.sh

coverage: setup ## say how many lines of each crate the tests reach (SCOPE=unit: without those that start servers)
	CARGO="$(CARGO)" tests/coverage.sh $(SCOPE)

deb: tools ## build the Debian packages into target/debian and check them; builds cargo-deb first where it is missing
	@command -v cargo-deb >/dev/null || $(CARGO) install --locked cargo-deb
	$(CARGO) build --locked --release --bins -p backstay-agent -p backstay-coordinator -p backstayctl -p backstay-manuals
	cd "$${CARGO_TARGET_DIR:-target}/release" && mkdir -p backstayctl-docs/man && ./backstayctl man backstayctl-docs/man && gzip -9nf backstayctl-docs/man/*.1 && \
		for shell in bash zsh fish; do ./backstayctl completion $$shell > backstayctl-docs/$$shell || exit 1; done
	cd "$${CARGO_TARGET_DIR:-target}/release" && ./backstay-manuals manuals && gzip -9nf manuals/*/man/*.1
	$(CARGO) deb --locked --no-build -p backstay-agent
	$(CARGO) deb --locked --no-build -p backstay-coordinator
	$(CARGO) deb --locked --no-build -p backstayctl
	$(CARGO) test --locked -p backstay-tests --test deploy -- --ignored packages
