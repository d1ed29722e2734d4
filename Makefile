# `make demo` and `make test` are all that a newcomer needs; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
TARGET ?= operator
MINUTES ?= 10
REQUESTS ?= 10000
IMAGES := ../images/checker:../images/http2:../images/server:../images/tensors:../images/trainer
SOURCES := operator/steeltown images tests benchmarks examples

.PHONY: help demo test test-fast test-server test-controlplane test-e2e test-neighbours test-mixing lint crds contract images cluster-up cluster-down cluster-status \
        fuzz bench-controller bench-serving clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: requirements/dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	env -u PIP_FIND_LINKS $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

test: lint test-fast test-server test-controlplane test-e2e ## everything CI runs

lint: $(VENV)/.installed ## style, types, layers, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd operator && ../$(BIN)/lint-imports --config ../pyproject.toml --no-cache
	cd operator && PYTHONPATH=$(IMAGES) ../$(BIN)/lint-imports --config ../images/imports.toml --no-cache
	PYTHONPATH=operator $(BIN)/python -m steeltown.api --check crds
	PYTHONPATH=operator $(BIN)/python -m steeltown.contract --check docs/contract

test-fast: $(VENV)/.installed ## the tests that need neither a cluster nor the model server as a process (about 4 minutes)
	$(PYTEST) -q -n 2 tests/unit tests/exploration --ignore=tests/unit/server

test-server: $(VENV)/.installed ## the model server as a process: protocol, limits, drain, and the clients that people use
	$(PYTEST) -q -n 2 tests/unit/server
	$(PYTEST) -q tests/conformance

test-controlplane: $(VENV)/.installed ## the tests that need an API server, but no pods
	$(PYTHON) tests/cluster up --control-plane
	$(PYTEST) -q -n 2 --dist loadfile tests/controlplane

test-e2e: $(VENV)/.installed ## the tests on a whole cluster
	PYTHONPATH=tests/support $(BIN)/python -m steeltown_testing.environment
	$(PYTEST) -q tests/e2e

test-neighbours: $(VENV)/.installed ## operator and images of another version with those of this one; REVISION=a commit or tag
	$(BIN)/python tests/neighbours.py $(REVISION)

test-mixing: $(VENV)/.installed ## models that mix rows, each asked REQUESTS=10000 times by clients at once (about 2 minutes)
	MIXING_REQUESTS=$(REQUESTS) $(PYTEST) -q tests/unit/server/test_mixing.py

fuzz: $(VENV)/.installed ## ten minutes of fuzzing; TARGET=operator, http, http2 or grpc, MINUTES=10
	env -u PIP_FIND_LINKS $(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r tests/fuzz/requirements.txt
	$(BIN)/python tests/fuzz/fuzz.py --target $(TARGET) --minutes $(MINUTES)

bench-controller: $(VENV)/.installed ## what the operator costs, with many objects and on a control plane without nodes (20 to 30 minutes)
	$(PYTHON) tests/cluster up --control-plane
	$(BIN)/python benchmarks/controller/bench.py
	$(BIN)/python benchmarks/controller/scale.py

bench-serving: $(VENV)/.installed ## our model server beside MLServer, KServe and FastAPI (25 to 30 minutes)
	$(BIN)/python benchmarks/serving/bench.py

images: cluster-up ## build the images that have changed and load them into the cluster
	$(PYTHON) images/build.py --load embedded

demo: $(VENV)/.installed ## the whole story on real data
	$(BIN)/python examples/flight-delay/demo.py

crds: $(VENV)/.installed ## write crds/ from operator/steeltown/api
	PYTHONPATH=operator $(BIN)/python -m steeltown.api crds

contract: $(VENV)/.installed ## write the JSON Schemas in docs/contract/ from operator/steeltown/contract
	PYTHONPATH=operator $(BIN)/python -m steeltown.contract docs/contract

cluster-up: ## start a Kubernetes cluster on this machine
	$(PYTHON) tests/cluster up

cluster-down: ## stop it (kind too, if the demo made one) and remove its state
	$(PYTHON) tests/cluster down
	$(PYTHON) tests/cluster down --control-plane
	if command -v kind >/dev/null; then kind delete cluster --name steeltown; rm -f build/kind.kubeconfig; fi

cluster-status: ## what runs
	$(PYTHON) tests/cluster status

clean: ## remove what the targets made in this folder
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
