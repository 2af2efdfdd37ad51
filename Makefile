# Tasks of this repository, in the environment .venv (PYTHON=... for another). CI runs .ci/run.

PYTHON ?= .venv/bin/python

.PHONY: help setup check fast test long platform docs ci

help:  ## list the tasks
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup:  ## make .venv with everything that development needs
	python3 -m venv .venv
	.venv/bin/pip install -q -c constraints.txt -e '.[dev]'

check:  ## lint, format, spelling, types
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	bash .ci/lint-js
	$(PYTHON) -m codespell_lib
	$(PYTHON) -m validate_pyproject pyproject.toml
	$(PYTHON) -m mypy

fast:  ## tests that need neither Ray nor a network nor seconds of a core each
	$(PYTHON) -m pytest tests/unit -m "not slow" -n 2

test:  ## all tests but the long ones and those with daemons
	$(PYTHON) -m pytest

long:  ## the long tests: sweeps that are killed, nodes that are lost, updates that are not finite, faults
	$(PYTHON) -m pytest -m long

platform:  ## tests with Slurm, sshd, Prometheus and SkyPilot, where these are installed; they need root
	$(PYTHON) -m pytest -m platform

docs:  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict

ci:  ## what every change must pass, in a clean clone
	bash .ci/run
