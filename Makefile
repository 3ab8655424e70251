# make run    start a cluster on this machine (ARGS="--port 8100 --data-dir ~/pc" passes options on)
# make test   every test           (ARGS="tests/unit -k lease" passes options on to pytest)
# make lint   linter, formatter and type checker
# make screenshots   the pictures of the README, from a running cluster
# make soak   many simulated clusters, power cuts and fuzzed readers (ARGS="--seeds 0-99": simulated clusters alone)
# make harm   a real cluster, harmed at random (ARGS="--seconds 600 --seed 1")
# make bench  figures
# make bench-engine   figures of the storage engine alone (ARGS="--large 20": with 20 GB of chunks too)
# make soak-engine    thousands of power cuts, every flipped bit, fuzzed readers (ARGS="--seeds 10000 --fuzz 600")
# All of them make .venv first, and bring it up to date when a requirements file changed.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
PYTHON := $(VENV)/bin/python
ARGS ?=

# Python 3.11 exactly: python3.11 if there is one, else python3 if it is one.
FIND_PYTHON = for candidate in "$$PENNCLOUD_PYTHON" python3.11 python3 python; do \
	[ -n "$$candidate" ] || continue; \
	"$$candidate" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && { echo "$$candidate"; exit 0; }; \
	done; exit 1

.PHONY: help run test lint screenshots soak harm soak-engine bench bench-engine clean

help:
	@sed -n 's/^# \{0,1\}//p; /^$$/q' Makefile

run: $(VENV)/run.stamp
	@exec $(PYTHON) manage.py cluster $(ARGS)

test: $(VENV)/dev.stamp
	@.ci/chromium
	@$(PYTHON) -m pytest $(ARGS)

lint: $(VENV)/dev.stamp
	@$(PYTHON) -m ruff check .
	@$(PYTHON) -m ruff format --check .
	@$(PYTHON) -m mypy

$(VENV)/bin/python:
	@base=$$($(FIND_PYTHON)) || { echo "PennCloud needs Python 3.11 with its venv module; none was found." >&2; exit 1; }; \
	echo "Making $(VENV) with $$base"; \
	"$$base" -m venv $(VENV) || { rm -rf $(VENV); \
		echo "Python's venv module is not complete; on Debian: apt install python3.11-venv" >&2; exit 1; }

$(VENV)/run.stamp: requirements.txt constraints.txt | $(VENV)/bin/python
	@echo "Installing what PennCloud runs on"
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/run.stamp | $(VENV)/bin/python
	@echo "Installing what the tests and linters need"
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -c constraints.txt -r requirements-dev.txt
	@touch $@

$(VENV)/soak.stamp: requirements-soak.txt $(VENV)/dev.stamp
	@echo "Installing what only the long runs need"
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -c constraints.txt -r requirements-soak.txt
	@touch $@

screenshots: $(VENV)/dev.stamp
	@.ci/chromium
	@$(PYTHON) -m tests.browser.screenshots $(ARGS)

soak: $(VENV)/soak.stamp
	@$(PYTHON) -m tests.simulation $(or $(ARGS),--seeds 0-99999)
	@$(if $(ARGS),,$(PYTHON) -m tests.unit.storage.soak)

harm: $(VENV)/dev.stamp
	@$(PYTHON) -m tests.store.soak $(ARGS)

soak-engine: $(VENV)/soak.stamp
	@$(PYTHON) -m tests.unit.storage.soak $(ARGS)

bench-engine: $(VENV)/dev.stamp
	@$(PYTHON) tests/bench/bench_engine.py $(ARGS)

bench: $(VENV)/dev.stamp
	@$(PYTHON) -m tests.bench $(ARGS)

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
