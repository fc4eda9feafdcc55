# Two commands do all set-up by themselves: `make demo` and `make test`. Everything stays in $(VENV).
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: demo test test-slow check fix bench clean help

demo: $(VENV)/.installed  ## set up, then run the main job on real text and real Flower nodes
	$(BIN)/parley demo

test: $(VENV)/.developing  ## set up, then run the fast tests
	$(BIN)/python -m pytest -n 2 --dist loadfile
	@echo "Left out: tests marked slow (real Flower deployments, kills, memory); run them with 'make test-slow'."

test-slow: $(VENV)/.developing  ## run the tests with real deployments, kills and memory limits
	$(BIN)/python -m pytest -m slow --timeout 900

check: $(VENV)/.developing  ## format, lint, types and the fast tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(MAKE) test

fix: $(VENV)/.developing  ## format, and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.developing  ## install the peers, and measure this state beside them: tables of ratios
	$(PIP) --editable '.[bench]'
	$(BIN)/parley bench dp-training
	$(BIN)/parley bench engine
	$(BIN)/parley bench evolve
	$(BIN)/parley bench ledger
	$(BIN)/parley bench logits
	$(BIN)/parley bench redaction
	$(BIN)/parley bench secure-sum
	$(BIN)/parley bench stream
	$(BIN)/parley bench text
	$(BIN)/parley bench weights

clean:  ## remove the environment and everything that was generated
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis demo runs

help:  ## list these commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 12

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Parley needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	touch $@

$(VENV)/.developing: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev]'
	touch $(VENV)/.installed $@
