# Two commands matter: `make demo` reads you a report on real data, `make test` runs every test.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := raysweep analysis tests benchmarks docs/measure

.PHONY: help setup demo test fuzz chaos check lint format clean
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
	$(BIN)/python -m pytest

fuzz: setup ## Thousands of odd sweep files, settings, curves and stores
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest --hypothesis-seed=0 --hypothesis-show-statistics tests/test_fuzz_*.py

chaos: setup ## 50 random kills of a sweep's processes and nodes, and the comparison
	$(BIN)/python tests/chaos.py --kills 50 --seed 0

check: lint ## What lint does, and the fast tests
	$(BIN)/python -m pytest -m 'not slow'

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
