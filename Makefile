# Works on a fresh machine with Python >= 3.11, make and a network; everything is installed into .venv here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help env quickstart bench gpu-check test test-all test-oldest coverage lint docs site

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

env: $(STAMP) ## make .venv and install the project with its pinned dependencies

# torch goes first and alone: the constraint then holds for whichever build (CPU or CUDA) the machine's index offers.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed, $(PYTHON) is `$(PYTHON) --version 2>&1`: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	  { echo "cannot make a virtual environment: install the venv module (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "installing into $(VENV) (a few minutes the first time)" >&2
	@$(PIP) torch 'setuptools>=77' wheel
	@$(PIP) --no-build-isolation -e '.[dev]'
	@touch $@

quickstart: $(STAMP) ## get weights and data, run experiments/quickstart.yaml, print its table
	@$(BIN)/collm fetch smollm2-135m movielens-small
	@$(BIN)/collm run experiments/quickstart.yaml

# SPEC and BENCH choose another case, e.g. make bench BENCH='--set dataset.path=ml-1m.zip' SPEC=experiments/benchmarks/smollm2.yaml
SPEC ?= experiments/benchmarks/tiny.yaml
bench: $(STAMP) ## measure speed and memory beside the plain loop (SPEC=..., BENCH='--sweep ...')
	@$(BIN)/collm bench $(SPEC) $(BENCH)

# On a machine that has torch and transformers but no index: GPU_PYTHON=python3 WHEELS=folder of the wheels that it lacks.
# CHECK passes options on, e.g. CHECK='--data ml-1m-released-split.zip --tokenizer smollm2-135m --output check.json'
GPU_PYTHON ?= $(if $(WHEELS),python3,$(BIN)/python)
gpu-check: $(if $(WHEELS),,$(STAMP)) ## measure all that one GPU can tell in one call (CHECK=..., GPU_PYTHON=..., WHEELS=...)
	@$(if $(WHEELS),$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps $(WHEELS)/*.whl)
	@$(if $(WHEELS),$(GPU_PYTHON) -m pip install --quiet --no-index --no-deps --no-build-isolation -e .)
	@$(GPU_PYTHON) experiments/benchmarks/gpu_check.py $(CHECK)

# A worker per core, one thread each: the tests' models are small.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

test: lint ## lint, types and the fast tests (WORKERS=... processes)
	@$(PYTEST)

test-all: lint ## as test, with the slow tests
	@$(PYTEST) -m ''

# Also what tests do in processes of their own (pyproject.toml, [tool.coverage.run]).
coverage: $(STAMP) ## the fast tests with the share of lines and branches that they reach
	@$(PYTEST) --cov --cov-report=term --cov-report=html:.coverage-html

OLDEST := .venv-oldest
test-oldest: ## the fast tests with the oldest versions that pyproject.toml allows
	@test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	@$(PYTHON) tests/oldest_versions.py > $(OLDEST)/constraints.txt
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/constraints.txt torch 'setuptools>=77' wheel
	@$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check -c $(OLDEST)/constraints.txt --no-build-isolation -e '.[dev]'
	@OMP_NUM_THREADS=1 $(OLDEST)/bin/python -m pytest -q -n $(WORKERS) --dist loadfile

lint: $(STAMP) ## ruff, mypy and the rules of imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache > $(VENV)/imports.txt || { cat $(VENV)/imports.txt >&2; exit 1; }

docs: $(STAMP) ## write docs/commands.md and docs/reference.md again
	@$(BIN)/python docs/generate.py

site: docs ## build the site of the docs in site/ (open site/index.html)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
