# Two commands matter: `make demo` reads you a report on real data, `make test` runs every test.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := raysweep analysis tests benchmarks examples
# Tests that need no Ray: a process for each core, so each process uses one thread. Tests that share
# a Ray, and those that make their own: two queues side by side.
PURE := OMP_NUM_THREADS=1 POLARS_MAX_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal
ON_RAY := $(BIN)/python -m pytest -n 2 --dist loadgroup --durations 20 $(RERUNS)

.PHONY: help setup demo test fuzz chaos flakes check lint format clean
.DEFAULT_GOAL := help

help: ## Say what each target does
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1|/' | column -t -s '|'

setup: .venv/installed ## Make .venv with everything in it

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup ## Train the default recipe on a local Ray and write its report
	$(BIN)/raysweep run digits --address local

test: setup ## Run every test
	$(PURE) -m "not ray and not cluster"
	$(ON_RAY) -m "ray or cluster"

fuzz: setup ## Thousands of odd sweep files, settings, curves and stores
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest --hypothesis-seed=0 --hypothesis-show-statistics tests/*/test_fuzz_*.py

chaos: setup ## 50 random kills of a sweep's processes and nodes, and the comparison
	$(BIN)/python benchmarks/chaos.py --kills 50 --seed 0

flakes: setup ## The tests that use a Ray, three times beside busy loops: what fails now and then?
	$(BIN)/python -m tests.support.flakes

check: lint ## What lint does, and the tests that need nothing but Python and torch
	$(PURE) -m pure

lint: setup ## Format, lint, types, import contracts
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/basedpyright
	$(BIN)/lint-imports

format: setup ## Format the code and mend what the linter can
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

clean: ## Remove the environment, results and caches
	rm -rf .venv results build dist .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
