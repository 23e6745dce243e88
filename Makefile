# `make help` lists the targets. Cargo does the work; the targets add what cargo cannot fetch.
#
# Set ORT_DYLIB_PATH and LIBTORCH to use your own libraries; then nothing is fetched.

TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO_FLAGS ?= --locked
# The environment of the Python tests, with the packages that tests/python/requirements.txt pins.
PYTHON ?= .deps/python/bin/python
# The container engine, and the images to build: cpu, cuda or train.
ENGINE ?= docker
IMAGES ?= cpu
# The devices that run the server's encoders: make serve DEVICES=cuda:0
DEVICES ?= cpu
# The ONNX Runtime that these devices need.
ONNXRUNTIME := $(if $(filter cpu%,$(DEVICES)),onnxruntime,onnxruntime-cuda)
# Further options of the server: make serve ARGS="--http 127.0.0.1:9000"
ARGS ?=
# What the trainer is built with: `make train FEATURES=collectives` adds training with many processes (gloo, NCCL).
FEATURES ?=

# Where `make install` puts the server.
PREFIX ?= /usr/local
# The commit that `--version` prints.
COMMIT = $(shell git rev-parse --short=12 HEAD 2>/dev/null)
# The oldest glibc that the wheels of client and server run on, which onnxruntime's wheel needs too. That of the trainer,
# linked with libtorch by this machine's compiler, needs the glibc of this machine.
GLIBC ?= 2.28
TRIPLE = $(shell uname -m)-unknown-linux-gnu

.DEFAULT_GOAL := help
.PHONY: help serve install wheels extension train test test-python check fmt doc docs fuzz fuzz-api soak deny bench bench-serve bench-clients bench-train bench-scale bench-gpu image image-test sbom onnxruntime onnxruntime-cuda libtorch python release bench-peers clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

serve: $(ONNXRUNTIME) ## Build the server and serve the bundles in models/; on a GPU: make serve DEVICES=cuda:0
	@tools/need.sh cargo gcc
	cargo build --release $(CARGO_FLAGS) --bin restain
	@ONNXRUNTIME=$(ONNXRUNTIME); . tools/onnxruntime.sh; exec $(TARGET)/release/restain serve --models models --devices $(DEVICES) $(ARGS)

install: onnxruntime ## Install the server with its demo model, completions and manual pages: make install PREFIX=~/.local
	@tools/need.sh cargo gcc
	RESTAIN_COMMIT=$(COMMIT) cargo build --release $(CARGO_FLAGS) --bin restain
	@tools/install.sh $(TARGET)/release/restain $${ORT_DYLIB_PATH:-.deps/onnxruntime/lib/libonnxruntime.so} $(PREFIX)

wheels: libtorch onnxruntime .deps/wheels/pins ## Build the wheels restain, restain-server and restain-train into dist/
	@tools/need.sh cargo gcc g++ strip
	PATH=$(CURDIR)/.deps/wheels/bin:$$PATH RESTAIN_COMMIT=$(COMMIT) \
	    cargo zigbuild --release $(CARGO_FLAGS) --target $(TRIPLE).$(GLIBC) -p restain -p restain-python
	RESTAIN_COMMIT=$(COMMIT) cargo build --release $(CARGO_FLAGS) -p restain-train --features collectives
	.deps/wheels/bin/python tools/wheels.py dist --server $(TARGET)/$(TRIPLE)/release --trainer $(TARGET)/release --manylinux

.deps/wheels/pins: tools/wheels.txt
	@tools/need.sh python3 pip
	python3 -m venv --clear .deps/wheels
	.deps/wheels/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	cp $< $@

train: libtorch onnxruntime ## Build the trainer, restain-train; for many processes: make train FEATURES=collectives
	@tools/need.sh cargo gcc g++
	cargo build --release $(CARGO_FLAGS) -p restain-train $(if $(FEATURES),--features $(FEATURES))

test: libtorch onnxruntime python ## Run all tests
	@tools/need.sh cargo gcc g++
	cargo test $(CARGO_FLAGS) --workspace --features restain-train/collectives
	@$(MAKE) --no-print-directory extension test-python

extension: ## Build the extension of restain.local as the tests use it, from what `cargo test` has built
	cargo build $(CARGO_FLAGS) --workspace --features restain-train/collectives --lib --tests

test-python: python ## Run the Python tests against the program that `cargo build` or `cargo test` built
	cd clients/python && ../../$(PYTHON) -m mypy && ../../$(PYTHON) -m ruff check && ../../$(PYTHON) -m ruff format --check
	$(PYTHON) -m pytest -c tests/python/pytest.ini tests/python tests/deploy clients/python/tests

check: ## Run everything that CI runs: format, lints, documentation, licences, tests
	@.ci/run

fmt: ## Format the sources
	@tools/need.sh cargo rustfmt
	cargo fmt

doc: libtorch ## Build the API documentation
	@tools/need.sh cargo gcc g++
	cargo doc $(CARGO_FLAGS) --no-deps --workspace

docs: .deps/docs/pins ## Build the documentation as a site into target/site, and check its links
	.deps/docs/bin/python tools/site.py $(TARGET)/site --programs $(TARGET)/release $(TARGET)/debug

.deps/docs/pins: tools/docs.txt
	@tools/need.sh python3 pip
	python3 -m venv --clear .deps/docs
	.deps/docs/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	cp $< $@

fuzz: ## Fuzz every decoder of external bytes for SECONDS=60 each: make fuzz SECONDS=600 NAMES="image oip"
	@tools/need.sh cargo gcc g++
	SECONDS_EACH=$(or $(SECONDS),60) fuzz/run.sh $(NAMES)

fuzz-api: onnxruntime python ## Fuzz the HTTP API from its OpenAPI description, for about ten minutes
	cargo build $(CARGO_FLAGS) --bin restain
	RESTAIN_FUZZ_EXAMPLES=$(or $(EXAMPLES),1500) RESTAIN_FUZZ_SEED=$(or $(SEED),$$(date +%s)) \
	    $(PYTHON) -m pytest -c tests/python/pytest.ini tests/python/test_openapi_fuzz.py -rA

soak: onnxruntime python ## Run a mixed load on one server for MINUTES=60 and check that its memory does not grow
	cargo build --release $(CARGO_FLAGS) --bin restain
	$(PYTHON) benches/soak.py $(TARGET)/release/restain --minutes $(or $(MINUTES),60)

deny: ## Check licences, sources, bans and known vulnerabilities of all crates; of these the dated snapshot if their database cannot be reached
	@tools/need.sh cargo
	@cargo deny --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deny
	cargo deny --locked check bans licenses sources
	@if cargo deny --locked fetch db >/dev/null 2>&1; then cargo deny --locked check advisories; \
	else tools/need.sh python3; python3 tools/advisories.py check; fi

bench: ## Measure synthesis
	@tools/need.sh cargo gcc
	cargo bench $(CARGO_FLAGS) --bench synth

bench-serve: train ## Compare the server with its bare encoder and its bare connection
	cargo build --release $(CARGO_FLAGS) --bin restain
	@[ -d runs/models/base/1 ] || $(TARGET)/release/restain-train init --preset base --out runs/models/base/1
	python3 benches/serve.py

bench-peers: onnxruntime ## Compare the server with LitServe, mosec and BentoML, which serve the same encoder
	@tools/need.sh cargo gcc python3 pip
	cargo build --release $(CARGO_FLAGS) --bin restain
	@[ -x .deps/peers/bin/python ] || python3 -m venv .deps/peers
	.deps/peers/bin/python -m pip install --quiet --disable-pip-version-check -r benches/peers/requirements.txt
	@. tools/onnxruntime.sh; .deps/peers/bin/python benches/peers.py --restain $(TARGET)/release/restain $(ARGS)

bench-clients: onnxruntime python ## Compare gRPC and the Open Inference Protocol with /v1/augment, and the Python client with `restain load`
	cargo bench $(CARGO_FLAGS) --bench transports
	cargo build --release $(CARGO_FLAGS) --bin restain
	$(PYTHON) benches/python_client.py $(TARGET)/release/restain

bench-train: libtorch python ## Compare a training step with the same step in PyTorch
	@tools/need.sh cargo gcc g++
	$(PYTHON) benches/train_step.py $(ARGS)

bench-gpu: python ## Run all benchmarks of a GPU: make bench-gpu ARGS="--quick"
	benches/gpu.sh $(ARGS)

image: ## Build container images: IMAGES="cpu cuda train", ENGINE=docker
	for image in $(IMAGES); do \
	    $(ENGINE) build --target $$image --build-arg REVISION=$$(git rev-parse HEAD) --tag restain:$$image . || exit; \
	done

image-test: ## Build and test container images as root, without a container engine or registry
	@deploy/image/test.sh $(IMAGES)

sbom: onnxruntime ## Write the server's bill of materials, as CycloneDX
	@mkdir -p $(TARGET)
	@deploy/image/crates.sh restain \
	    | python3 tools/sbom.py restain --crates - --wheels $(wildcard .deps/onnxruntime/pins.json) --bundles models > $(TARGET)/sbom.cdx.json
	@echo $(TARGET)/sbom.cdx.json

bench-scale: onnxruntime python ## Measure replicas behind HAProxy and by rendezvous hashing, with one killed and restarted
	@tools/need.sh haproxy
	cargo build --release $(CARGO_FLAGS) --bin restain
	$(PYTHON) benches/scale.py $(ARGS)

onnxruntime: ## Fetch ONNX Runtime, which the server loads at run time
	@tools/need.sh cargo gcc
	@[ -n "$$ORT_DYLIB_PATH" ] || { tools/need.sh python3 pip && python3 tools/fetch.py onnxruntime; }

onnxruntime-cuda: ## Fetch ONNX Runtime for NVIDIA GPUs, with the libraries of CUDA 13 that it needs
	@tools/need.sh cargo gcc
	@[ -n "$$ORT_DYLIB_PATH" ] || { tools/need.sh python3 pip && python3 tools/fetch.py onnxruntime-cuda; }

libtorch: ## Fetch libtorch, which the trainer links
	@tools/need.sh cargo gcc g++
	@[ -n "$$LIBTORCH" ] || { tools/need.sh python3 pip && python3 tools/fetch.py libtorch; }

python: ## Create the environment of the Python tests
	@tools/need.sh python3 pip
	@tools/python.sh

release: ## Check, build and tag a release, without pushing it: make release VERSION=0.2.0 [DRY_RUN=1]
	@tools/need.sh cargo gcc git python3
	@tools/release.sh $(if $(DRY_RUN),--dry-run) $(VERSION)

clean: ## Remove all built and fetched files
	cargo clean
	rm -rf .deps
