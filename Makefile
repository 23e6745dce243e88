# What there is to do here; `make help` lists it. Cargo does the work: these targets only fetch what cargo cannot.
#
# ORT_DYLIB_PATH and LIBTORCH name libraries of your own; then nothing is fetched.

TARGET := $(or $(CARGO_TARGET_DIR),target)
CARGO_FLAGS ?= --locked
# For the tests in Python; in it stands what tests/python/requirements.txt pins.
PYTHON ?= .deps/python/bin/python
# What builds container images, and which: cpu, cuda or train.
ENGINE ?= docker
IMAGES ?= cpu
# Where the server's encoders run: make serve DEVICES=cuda:0
DEVICES ?= cpu
# Which ONNX Runtime that wants.
ONNXRUNTIME := $(if $(filter cpu%,$(DEVICES)),onnxruntime,onnxruntime-cuda)
# Further options of the server: make serve ARGS="--http 127.0.0.1:9000"
ARGS ?=
# What the trainer is built with: `make train FEATURES=collectives` adds training with many processes (gloo, NCCL).
FEATURES ?=

.DEFAULT_GOAL := help
.PHONY: help serve train test test-python check fmt doc fuzz fuzz-api soak deny bench bench-serve bench-clients bench-train bench-scale bench-gpu image image-test sbom onnxruntime onnxruntime-cuda libtorch python clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

serve: $(ONNXRUNTIME) ## Build the server and run it on the bundles in models/; on a GPU: make serve DEVICES=cuda:0
	@tools/need.sh cargo gcc
	cargo build --release $(CARGO_FLAGS) --bin restain
	@ONNXRUNTIME=$(ONNXRUNTIME); . tools/onnxruntime.sh; exec $(TARGET)/release/restain serve --models models --devices $(DEVICES) $(ARGS)

train: libtorch onnxruntime ## Build the trainer, restain-train; for many processes: make train FEATURES=collectives
	@tools/need.sh cargo gcc g++
	cargo build --release $(CARGO_FLAGS) -p restain-train $(if $(FEATURES),--features $(FEATURES))

test: libtorch onnxruntime python ## Run every test
	@tools/need.sh cargo gcc g++
	cargo test $(CARGO_FLAGS) --workspace --features restain-train/collectives
	@$(MAKE) --no-print-directory test-python

test-python: python ## Run the tests in Python, on the program that `cargo build` or `cargo test` has built
	cd clients/python && ../../$(PYTHON) -m mypy && ../../$(PYTHON) -m ruff check && ../../$(PYTHON) -m ruff format --check
	$(PYTHON) -m pytest -c tests/python/pytest.ini tests/python tests/deploy clients/python/tests

check: ## Everything that CI checks, tests included
	@.ci/run

fmt: ## Format the sources
	@tools/need.sh cargo rustfmt
	cargo fmt

doc: libtorch ## Build the API documentation
	@tools/need.sh cargo gcc g++
	cargo doc $(CARGO_FLAGS) --no-deps --workspace

fuzz: ## Fuzz every decoder of outside bytes for SECONDS each: make fuzz SECONDS=600 NAMES="image oip"
	@tools/need.sh cargo gcc g++
	SECONDS_EACH=$(or $(SECONDS),60) fuzz/run.sh $(NAMES)

fuzz-api: onnxruntime python ## Send the server what is made up from its API description, for ten minutes or so
	cargo build $(CARGO_FLAGS) --bin restain
	RESTAIN_FUZZ_EXAMPLES=$(or $(EXAMPLES),1500) RESTAIN_FUZZ_SEED=$(or $(SEED),$$(date +%s)) \
	    $(PYTHON) -m pytest -c tests/python/pytest.ini tests/python/test_openapi_fuzz.py -rA

soak: onnxruntime python ## A mixed load for MINUTES=60 on one server, whose memory must not grow
	cargo build --release $(CARGO_FLAGS) --bin restain
	$(PYTHON) benches/soak.py $(TARGET)/release/restain --minutes $(or $(MINUTES),60)

deny: ## Check licences, sources and bans of what is linked in, and known vulnerabilities where their list can be reached
	@tools/need.sh cargo
	@cargo deny --version >/dev/null 2>&1 || cargo install --quiet --locked cargo-deny
	cargo deny --locked check bans licenses sources
	@if cargo deny --locked fetch db >/dev/null 2>&1; then cargo deny --locked check advisories; \
	else echo "SKIPPED: the list of known vulnerabilities cannot be reached from here"; fi

bench: ## Measure the synthesiser
	@tools/need.sh cargo gcc
	cargo bench $(CARGO_FLAGS) --bench synth

bench-serve: train ## Measure the server against its encoder, its wire and itself
	cargo build --release $(CARGO_FLAGS) --bin restain
	@[ -d runs/models/base/1 ] || $(TARGET)/release/restain-train init --preset base --out runs/models/base/1
	python3 benches/serve.py

bench-clients: onnxruntime python ## Measure every other way in against /v1/augment, and the Python client against `restain load`
	cargo bench $(CARGO_FLAGS) --bench transports
	cargo build --release $(CARGO_FLAGS) --bin restain
	$(PYTHON) benches/python_client.py $(TARGET)/release/restain

bench-train: libtorch python ## Measure a training step against the same step in PyTorch
	@tools/need.sh cargo gcc g++
	$(PYTHON) benches/train_step.py $(ARGS)

bench-gpu: python ## Measure all there is to measure of a GPU: make bench-gpu ARGS="--quick"
	benches/gpu.sh $(ARGS)

image: ## Build container images: IMAGES="cpu cuda train", ENGINE=docker
	for image in $(IMAGES); do \
	    $(ENGINE) build --target $$image --build-arg REVISION=$$(git rev-parse HEAD) --tag restain:$$image . || exit; \
	done

image-test: ## Build container images as root, without an engine or a registry, and try each
	@deploy/image/test.sh $(IMAGES)

sbom: onnxruntime ## Write what the server is made of, as CycloneDX
	@mkdir -p $(TARGET)
	@deploy/image/crates.sh restain \
	    | python3 tools/sbom.py restain --crates - --wheels $(wildcard .deps/onnxruntime/pins.json) --bundles models > $(TARGET)/sbom.cdx.json
	@echo $(TARGET)/sbom.cdx.json

bench-scale: onnxruntime python ## Measure replicas behind HAProxy and by rendezvous, one of them killed and back
	@tools/need.sh haproxy
	cargo build --release $(CARGO_FLAGS) --bin restain
	$(PYTHON) benches/scale.py $(ARGS)

onnxruntime: ## Fetch ONNX Runtime, which the server loads
	@tools/need.sh cargo gcc
	@[ -n "$$ORT_DYLIB_PATH" ] || { tools/need.sh python3 pip && python3 tools/fetch.py onnxruntime; }

onnxruntime-cuda: ## Fetch ONNX Runtime for NVIDIA GPUs, with the libraries of CUDA 13 that it needs
	@tools/need.sh cargo gcc
	@[ -n "$$ORT_DYLIB_PATH" ] || { tools/need.sh python3 pip && python3 tools/fetch.py onnxruntime-cuda; }

libtorch: ## Fetch libtorch, which the trainer is built with
	@tools/need.sh cargo gcc g++
	@[ -n "$$LIBTORCH" ] || { tools/need.sh python3 pip && python3 tools/fetch.py libtorch; }

python: ## Make the environment of the tests in Python
	@tools/need.sh python3 pip
	@tools/python.sh

clean: ## Remove what was built and fetched
	cargo clean
	rm -rf .deps
