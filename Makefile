# `make demo` and `make test` each set up everything they need on a fresh machine.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test test-slow lint benchmarks clean

demo: .venv/ready
	$(BIN)/physgen demo --out demo

test: lint
	$(BIN)/python -m pytest -q -m "not slow" --numprocesses 2 --dist loadfile --no-loadscope-reorder

test-slow: lint
	$(BIN)/python -m pytest -q -m slow

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

benchmarks: .venv/ready
	mkdir -p benchmarks
	$(BIN)/python -m workflows.benchmarks.metropolis --environment benchmarks/peers --json benchmarks/metropolis.json
	$(BIN)/python -m workflows.benchmarks.clusters --environment benchmarks/peers --json benchmarks/clusters.json
	$(BIN)/python -m workflows.benchmarks.tempering --environment benchmarks/peers --json benchmarks/tempering.json
	$(BIN)/python -m workflows.benchmarks.dataset --environment benchmarks/peers --json benchmarks/dataset.json
	$(BIN)/python -m workflows.benchmarks.perfect --json benchmarks/perfect.json
	$(BIN)/python -m workflows.benchmarks.table benchmarks/*.json

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

clean:
	rm -rf .venv demo runs benchmarks report.html
