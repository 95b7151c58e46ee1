.DEFAULT_GOAL := run
.PHONY: help run test nightly check fix bench fuzz spec lock audit cut release

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-9s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Run otpd dev at http://localhost:5000/dev: no Redis or relay needed
	cargo run --release -- dev

test: ## Run everything that CI checks; installs missing packages
	tests/run

nightly: test ## Also run what takes too long for CI: proofs in Java, failovers, benchmarks, equal builds
	tests/proofs/run --java
	OTPD_FAILOVERS=20 cargo test --test it -- failover:: cluster:: --nocapture --test-threads 1
	OTPD_TEST_CLUSTER=1 cargo test --test it -- --test-threads 3
	OTPD_REQUESTS=2000000 benches/run
	tests/release/reproducible

check: ## Check formatting, lints and unit tests: the quick loop
	cargo fmt --check
	cargo clippy --all-targets -- --deny warnings
	cargo test --lib

fix: ## Apply simple lint fixes and format
	cargo clippy --all-targets --fix --allow-dirty --allow-staged
	cargo fmt

bench: ## Print the figures of docs/performance.md and others; takes minutes
	benches/run

fuzz: ## Fuzz each target for one minute; needs a nightly toolchain and cargo-fuzz
	for target in $$(cargo fuzz list); do \
	  mkdir -p fuzz/corpus/$$target && \
	  cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=60 || exit 1; \
	done

spec: ## Write openapi/ from the code
	cargo run --quiet -- openapi --format json > openapi/openapi.json
	cargo run --quiet -- openapi --format yaml > openapi/openapi.yaml

lock: ## Update dependencies to the newest compatible versions, the same for fuzz/
	cargo update
	cp Cargo.lock fuzz/Cargo.lock
	cargo check --manifest-path fuzz/Cargo.toml

audit: ## Check licenses, sources and advisories of the dependencies; needs cargo-deny
	cargo deny check

cut: ## Prepare a release: make cut VERSION=1.2.3; commits nothing
	deploy/cut $(VERSION)

release: ## Build the files of a release into target/dist, from the tagged commit
	deploy/release
