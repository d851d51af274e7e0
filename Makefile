# Each target first installs the environment it needs, once. `make help` lists the targets.

PYTHON ?= python3
# URL of a package index to take torch from, e.g. PyTorch's index of CPU-only wheels.
TORCH_INDEX ?=

BIN := .venv/bin
# pip would compile every module of torch and transformers, which takes a minute or more. Instead,
# one import (WARM) compiles the modules in use; it must be allowed to write bytecode.
export PYTHONDONTWRITEBYTECODE :=
WARM := $(BIN)/python -c 'import torch, transformers.models.qwen3.modeling_qwen3, aiohttp, pyarrow.parquet'
INSTALL := $(BIN)/python -m pip --disable-pip-version-check --no-input install --quiet --no-compile
TORCH_PIN := $(shell grep '^torch==' constraints.txt)
MADE_OF := pyproject.toml constraints.txt

export PYTHON TORCH_INDEX # for scripts/vllm-env

.DEFAULT_GOAL := help
.PHONY: help demo baselines lab env env-vllm lint test test-vllm test-vocabularies test-benchmarks
.PHONY: test-long models-page clean
.DELETE_ON_ERROR:

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20
	@echo
	@echo "  PYTHON=python3.12       the interpreter of .venv (3.11 or newer)"
	@echo "  TORCH_INDEX=URL         where to get torch, e.g. an index of CPU-only wheels"

demo: .venv/.for-demo ## Synthesise 40 samples with two bundled tiny models: runs/demo
	$(BIN)/tessy demo --out runs/demo

baselines: .venv/.for-demo ## Every method with the bundled models, side by side: runs/baselines/compare.html
	PATH="$(CURDIR)/$(BIN):$$PATH" scripts/baselines

lab: .venv/.for-lab ## Test the paper's claim with the bundled models, in minutes: runs/lab/lab.html
	$(BIN)/tessy lab --out runs/lab

env: .venv/.for-dev ## The environment for development: .venv

lint: .venv/.for-dev ## ruff, mypy and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# A group of tests shares what is slow to load, such as a vocabulary, in one process.
test: lint ## lint, then all tests without model servers, and a short round of each benchmark
	scripts/real-tokenizers
	$(BIN)/pytest --numprocesses 2 --dist loadgroup

test-vocabularies: .venv/.for-dev ## Published vocabularies with a hundred times as many texts
	scripts/real-tokenizers
	TESSY_SWEEP=100 $(BIN)/pytest --numprocesses 2 --dist loadgroup --timeout 3600 tests/tokenization/test_real_vocabularies.py

models-page: .venv/.for-dev ## Write docs/models.md from the checks of published chat templates
	scripts/real-tokenizers
	$(BIN)/python -m tests.families.models_page

env-vllm: ## The environment for tests against real servers: .venv-vllm
	scripts/vllm-env

test-vllm: .venv/.for-dev env-vllm ## Tests against real vLLM servers on the CPU
	$(BIN)/pytest -m 'vllm and not benchmark and not long' tests/vllm

test-benchmarks: .venv/.for-dev env-vllm ## All tests of the benchmarks (also installs .venv-vllm)
	$(BIN)/pytest -m benchmark tests/benchmarks tests/vllm

test-long: .venv/.for-dev env-vllm ## Tests that CI has no time for, with real servers too
	$(BIN)/pytest -m long tests

clean: ## Remove the environments and caches; runs/ stays
	rm -rf .venv .venv-vllm .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo "tessy needs Python 3.11 or newer, and $(PYTHON) is not: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "installing .venv (some minutes: torch and transformers are large)"
	$(PYTHON) -m venv .venv
	$(INSTALL) --constraint constraints.txt --upgrade pip

# With an index for torch, torch is installed first and alone, so that only torch comes from it.
.venv/.torch: $(MADE_OF) | .venv/bin/python
	$(if $(TORCH_INDEX),$(INSTALL) '$(TORCH_PIN)' --index-url '$(TORCH_INDEX)',@:)
	@touch $@

.venv/.for-demo: $(MADE_OF) .venv/.torch
	$(INSTALL) --constraint constraints.txt --editable '.[torch,data]'
	$(WARM)
	@touch $@

.venv/.for-lab: $(MADE_OF) .venv/.torch
	$(INSTALL) --constraint constraints.txt --editable '.[train,data]'
	$(WARM)
	@touch $@ .venv/.for-demo

.venv/.for-dev: $(MADE_OF) .venv/.torch
	$(INSTALL) --constraint constraints.txt --editable '.[train,analysis,data,sandbox,dev]'
	$(WARM)
	@touch $@ .venv/.for-demo .venv/.for-lab
