# `make demo` and `make test` each set up everything they need on a fresh machine.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test test-slow lint benchmarks clean

demo: .venv/ready
	$(BIN)/physgen demo --out demo

test: lint
	$(BIN)/python -m pytest -q -m "not slow"

test-slow: lint
	$(BIN)/python -m pytest -q -m slow

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmarks: .venv/ready
	mkdir -p benchmarks
	for name in metropolis clusters tempering dataset; do \
	  $(BIN)/python -m workflows.benchmarks.$$name --environment benchmarks/peers --json benchmarks/$$name.json || exit 1; \
	done

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv demo runs benchmarks report.html
