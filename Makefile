# One virtual environment, pinned by constraints.txt, for everything below.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two tests at a time: they are single-threaded, and some start processes of their own.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal
# --no-compile: bytecode is written on first import instead, for the modules that are used.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

.PHONY: help quickstart test test-all check package format clean

help:
	@echo "make quickstart  install, then the whole main job on text found on this machine (at most 6 minutes on 2 cores)"
	@echo "make test        install, then the fast test suite (about 10 minutes on 2 cores)"
	@echo "make test-all    the slow tests too: whole runs and real corpora"
	@echo "make check       lint, format and types"
	@echo "make package     sdist, wheel, and the wheel at work in a fresh environment"
	@echo "make format      let ruff mend what it can"

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing masklater into $(VENV) (pinned by constraints.txt) ..."
	$(INSTALL) --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) --editable '.[test]'
	@touch $@

quickstart: $(VENV)/.installed
	$(BIN)/masklater quickstart

test: $(VENV)/.installed-test
	$(PYTEST)

test-all: $(VENV)/.installed-test
	$(PYTEST) -m 'slow or not slow'

check: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

package: $(VENV)/.installed-test
	.ci/package $(BIN)/python

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
