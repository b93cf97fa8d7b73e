# Two commands are all a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
export NUMBA_CACHE_DIR ?= $(abspath $(VENV))/numba-cache

.PHONY: help demo test test-slow lint check format bench clean

help:
	@echo "make demo       install, then turn the whole ring on MovieLens 1M (about three minutes)"
	@echo "make test       install, then run the tests"
	@echo "make lint       format, lint, types, import rules"
	@echo "make check      the same and the fast tests (a few minutes)"
	@echo "make test-slow  the tests that take minutes"
	@echo "make bench      the benchmarks: serve and evaluate"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	@touch $@ $(VENV)/.core

demo: $(VENV)/.core
	$(BIN)/honeyguide demo demo

test: $(VENV)/.test
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

test-slow: $(VENV)/.test
	$(BIN)/python -m pytest -m slow

lint: $(VENV)/.test
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow and not heavy"

format: $(VENV)/.test
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

bench: $(VENV)/.core
	$(BIN)/honeyguide bench serve --json benchmarks/results/serve.json
	$(BIN)/honeyguide bench evaluate --json benchmarks/results/evaluate.json

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .hypothesis
