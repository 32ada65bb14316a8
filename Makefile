# What the project does, by name. `make` alone lists it.

# Builds and downloads are kept outside the clone, so that a second clone starts warm.
CACHE := $(or $(RERANKER_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/reranker)
export CARGO_TARGET_DIR ?= $(CACHE)/target
BINARY := $(CARGO_TARGET_DIR)/debug/reranker
OPERATOR := $(CARGO_TARGET_DIR)/debug/reranker-operator

.PHONY: help run test lint fmt build image cuda bench bench-gpu bless generate charts e2e deny demo fuzz

help: ## list the targets
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 8

# The dev profile compiles the arithmetic as release does and shares its output with `make test`.
run: ## serve the demo model and collections on ports 8080 (HTTP), 50051 (gRPC) and 9090 (admin)
	cargo run --package reranker -- serve --model demo --alias zerank-1-small=demo --alias zerank-1=demo \
	  --data-dir $(CACHE)/data

test: lint ## all that a change must pass
	cargo build --workspace --all-targets
	cargo test --workspace
	tests/sdk/run.sh $(BINARY)

lint: ## formatting, clippy with warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- --deny warnings

fmt: ## format the sources
	cargo fmt --all

build: ## the optimised binary: target/release/reranker under the cache folder
	cargo build --release --package reranker
	@echo $(CARGO_TARGET_DIR)/release/reranker

# For cards too: make image IMAGES="server operator cuda"
IMAGES := server operator

image: ## the container images, with docker, buildah or podman
	.ci/image $(IMAGES)

cuda: ## all of the build for NVIDIA cards that shows without one; installs NVIDIA's compiler, says so if it cannot
	service/engine/cuda/toolkit.sh service/engine/cuda/check.sh

bench-gpu: ## the figures of a card, on this machine; says so if there is none
	service/engine/cuda/toolkit.sh cargo bench --features cuda --package reranker-engine --bench cards

# What searches are measured beside; `make bench PEERS="fts5 opensearch"` needs a JDK and Maven.
PEERS := fts5

bench: ## the figures of tests/bench/README.md, on this machine
	cargo build --package reranker
	cargo test --package reranker-engine --test reference -- --nocapture
	python3 -m venv $(CACHE)/reference
	$(CACHE)/reference/bin/pip install --quiet --requirement tests/reference/requirements.txt
	$(CACHE)/reference/bin/python tests/bench/forward.py --binary $(BINARY)
	python3 -m venv $(CACHE)/bench
	$(CACHE)/bench/bin/pip install --quiet grpcio==1.76.0
	$(CACHE)/bench/bin/python tests/bench/loopback.py --binary $(BINARY)
	cargo build --release --package reranker
	cargo bench --no-run --package reranker-engine --bench throughput
	$(CACHE)/bench/bin/python tests/bench/load.py --binary $(CARGO_TARGET_DIR)/release/reranker
	cargo bench --package reranker --bench collections -- 20000
	$(CACHE)/bench/bin/pip install --quiet numpy rank_bm25
	$(CACHE)/bench/bin/python tests/bench/search.py --binary $(CARGO_TARGET_DIR)/release/reranker --peers $(PEERS)

bless: ## make the reference scores anew; downloads torch and transformers
	cargo build --package reranker
	python3 -m venv $(CACHE)/reference
	$(CACHE)/reference/bin/pip install --quiet --requirement tests/reference/requirements.txt
	$(CACHE)/reference/bin/python tests/reference/make_reference.py --binary $(BINARY)

generate: ## write what is generated: the operator's definition, rules, golden children, plot, values of the charts
	cargo build --package reranker-operator
	$(OPERATOR) crd > charts/reranker-operator/files/crd.yaml
	$(OPERATOR) rules > charts/reranker-operator/files/rules.yaml
	$(OPERATOR) simulate operator/simulation.csv --svg operator/simulation.svg
	RERANKER_GENERATE=1 cargo test --package reranker-operator --lib resources::
	python3 -m venv $(CACHE)/charts
	$(CACHE)/charts/bin/pip install --quiet --requirement tests/charts/requirements.txt
	$(CACHE)/charts/bin/python charts/generate.py

charts: ## lint and render the Helm charts, with helm built from its Go module; see tests/charts
	tests/charts/run.sh

e2e: charts ## the operator and the charts on a real Kubernetes, built from Go modules; minutes the first time
	cargo build --workspace --bins
	cargo test --workspace --test cluster --no-run
	tests/cluster/run.sh sh -c 'tests/charts/run.sh && cargo test --workspace --test cluster -- --nocapture --test-threads 2'

fuzz: ## fuzz what clients send, FUZZ_SECONDS (60) a target; the first build takes minutes
	tests/fuzz/run.sh

deny: ## licences, bans and sources of all dependencies
	cargo install --quiet --locked --root $(CACHE)/tools cargo-deny
	$(CACHE)/tools/bin/cargo-deny check bans licenses sources

demo: ## train the demo model anew on this machine's packages; an hour or more, downloads torch
	python3 -m venv $(CACHE)/train
	$(CACHE)/train/bin/pip install --quiet --requirement service/engine/demo/requirements.txt
	for step in corpus tokenizer negatives train evaluate; do \
	  $(CACHE)/train/bin/python service/engine/demo/train.py $$step || exit; \
	done
