# One virtual environment, pinned by constraints.txt, for everything below.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two tests at a time: they are single-threaded, and some start processes of their own.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist worksteal
# --no-compile: bytecode is written on first import instead, for the modules that are used. So it must be written:
# without it each of the hundreds of processes that tests start compiles torch and transformers again, 13 s of 21.
export PYTHONDONTWRITEBYTECODE =
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
# The oldest versions that pyproject.toml allows, and what may not stay as pinned beside them.
OLDEST := .venv-oldest
OLDEST_PAIR := 'torch==2.11.*' 'transformers==5.17.*'
OLDEST_MAY_MOVE := torch|transformers|tokenizers|huggingface_hub|hf-xet|httpx2|httpcore2|sympy|networkx|fsspec

.PHONY: help quickstart test test-all test-gpu test-oldest check docs package format clean

help:
	@echo "make quickstart  install, then the whole main job on text found on this machine (at most 6 minutes on 2 cores)"
	@echo "make test        install, then the fast test suite (about 8 minutes on 2 cores)"
	@echo "make test-all    the slow tests too: whole runs and real corpora"
	@echo "make test-gpu    what needs a GPU, on a machine that has one (the other tests hide it)"
	@echo "make test-oldest the fast tests on the oldest torch and transformers that are supported, in .venv-oldest"
	@echo "make check       lint, format and types"
	@echo "make docs        the site from docs/, in site/; a link that leads nowhere fails"
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

# The slow tests make the site and run the notebook too.
$(VENV)/.installed-slow: $(VENV)/.installed-test
	$(INSTALL) --editable '.[test,docs,notebook]'
	@touch $@

test-all: $(VENV)/.installed-slow
	$(PYTEST) -m 'slow or not slow'

test-gpu: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m gpu tests/gpu

# Before each release. For Linux on x86-64 the ordinary torch of that version is built for CUDA: it brings gigabytes of
# libraries along, and computes on a CPU all the same. TORCH_INDEX=URL takes a build for CPUs from an index that has one.
$(OLDEST)/.installed: pyproject.toml constraints.txt
	@test -x $(OLDEST)/bin/python || $(PYTHON) -m venv $(OLDEST)
	@echo "Installing masklater with $(OLDEST_PAIR) into $(OLDEST) ..."
	grep -vE '^($(OLDEST_MAY_MOVE))==' constraints.txt > $(OLDEST)/constraints.txt
	$(OLDEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--constraint $(OLDEST)/constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
		$(OLDEST_PAIR) --editable '.[test]'
	@touch $@

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest --numprocesses 2 --dist worksteal

check: $(VENV)/.installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(VENV)/.installed-docs: $(VENV)/.installed
	$(INSTALL) --editable '.[docs]'
	@touch $@

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --builder html docs site
	@echo "open site/index.html"

package: $(VENV)/.installed-test
	.ci/package $(BIN)/python

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean:
	rm -rf $(VENV) $(OLDEST) site .pytest_cache .ruff_cache .mypy_cache
