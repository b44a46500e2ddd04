# make demo   meta-train an optimizer, evaluate it, show where the report is (7 to 15 minutes)
# make test   what must hold before a change lands (10 to 15 minutes)
# make test-all   the same with the long statistical and end-to-end tests (25 to 40 minutes)
# make test-slow  the long ones alone, the whole zoo among them
# Both make .venv first, with the versions of constraints.txt. PYTHON=python3.12 chooses another.

PYTHON ?= python3
VENV ?= .venv
PRESET ?= demo
SUITE ?= demo
WORKDIR ?= runs/$(PRESET)
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test test-all test-slow lint

demo: $(READY)
	$(BIN)/python -m meta_train --preset=$(PRESET) --workdir=$(WORKDIR)
	$(BIN)/python -m meta_train.evaluate --optimizer=$(WORKDIR)/optimizer --suite=$(SUITE) --workdir=$(WORKDIR)/evaluation

test: lint
	$(BIN)/python -m pytest --numprocesses=2 -m "not slow"

test-all: lint
	$(BIN)/python -m pytest --numprocesses=2

test-slow: $(READY)
	$(BIN)/python -m pytest --numprocesses=2 -m slow

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)
