.PHONY: run test nightly check fix bench fuzz spec lock audit

run: ## the main job on this machine: http://localhost:5000/dev
	cargo run --release -- dev

test: ## everything that CI checks; installs what is missing
	tests/run

nightly: test ## also what takes CI too long: proofs in Java, the benchmarks
	tests/proofs/run --java
	cargo bench

check: ## the quick inner loop
	cargo clippy --all-targets -- --deny warnings
	cargo test --lib

fix: ## what can be mended by machine
	cargo clippy --all-targets --fix --allow-dirty --allow-staged
	cargo fmt

bench: ## figures and ratios; takes minutes
	cargo bench

fuzz: ## one minute a target; needs a nightly toolchain and cargo-fuzz
	for target in $$(cargo fuzz list); do \
	  mkdir -p fuzz/corpus/$$target && \
	  cargo +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- -max_total_time=60 || exit 1; \
	done

spec: ## openapi/ anew, from the code
	cargo run --quiet -- openapi --format json > openapi/openapi.json
	cargo run --quiet -- openapi --format yaml > openapi/openapi.yaml

lock: ## the newest compatible dependencies, the same for fuzz/
	cargo update
	cp Cargo.lock fuzz/Cargo.lock
	cargo check --manifest-path fuzz/Cargo.toml

audit: ## licences, sources and known advisories of the dependencies; needs cargo-deny
	cargo deny check
