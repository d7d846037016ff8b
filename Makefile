# What people and CI run. `make` lists the targets.
.PHONY: help demo demo-down test test-full check oracle seeded-bugs bench-agent bench-files bench-indexer bench-limits requirements-%

CARGO_TEST = cargo test --locked --workspace --features tailrace/failpoints

help:
	@sed -nE 's/^([a-z-]+):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

requirements-%:
	@deploy/stack/requirements $(subst +, ,$*)

demo: requirements-build+stack ## a minute of nginx traffic: file, Kafka, OpenSearch, a table (KEEP=1 runs on)
	@deploy/demo/run

demo-down: ## stop and remove the demo
	@deploy/demo/down

check: requirements-build ## formatting and lints
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings

test: requirements-build+stack check ## every test, on a stack that this run starts and stops (30 minutes at most)
	tests/run $(CARGO_TEST)

test-full: requirements-build+stack check ## the same with longer runs and the seeded bugs (85 minutes at most)
	TAILRACE_TEST_FULL=1 tests/run $(CARGO_TEST)
	tests/seeded-bugs/run

oracle: requirements-build+stack ## pipelines on a real search node and on ours (TAILRACE_TEST_FULL=1: ten times the random ones)
	tests/run cargo test --locked --package tests --test oracle -- --nocapture --test-threads=1

seeded-bugs: requirements-build ## applies each seeded bug to a copy: a test must turn red
	tests/seeded-bugs/run

bench-agent: requirements-build+stack+bench ## file to Kafka: CPU per line, beside rsyslog and kcat
	tests/bench/agent

bench-files: requirements-build+stack+bench ## 10,000 and 20,000 files under one agent: memory, idle CPU, progress
	tests/bench/files

bench-indexer: requirements-build+stack+bench ## Kafka to a null sink: CPU per document, beside rsyslog
	tests/bench/indexer

bench-limits: requirements-build+stack ## a tenfold burst of a minute under a rate plan (offered, sent; docs/rate-plans.svg)
	tests/bench/limits
