# One place for what one does with a checkout; `make help` lists it.

VENV ?= .venv
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	$$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$name && break; done)

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
SLURM_FLAG := $(if $(SLURM),$(if $(filter 0 no false,$(SLURM)),--no-slurm,--slurm))

.PHONY: help demo test check check-style check-types check-imports generate clean

help:
	@echo 'make demo      install into $(VENV) and run the main job (SLURM=1: with Slurm, SLURM=0: without)'
	@echo 'make test      set up what the tests need (as root: Debian packages too) and run all of them'
	@echo '               (PYTEST="tests/agent -k slots" chooses)'
	@echo 'make check     ruff, mypy, pyright and the rules for imports'
	@echo 'make generate  make what is made again: protobuf code, the lists of settings'
	@echo 'make clean     remove what these made, the virtual environments included'

demo: $(VENV)/.installed
	$(BIN)/python -m demo $(SLURM_FLAG)

test: $(VENV)/.installed-dev
	$(BIN)/python -m tests.setup
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile $(PYTEST)

check: check-style check-types check-imports

check-style: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

check-types: $(VENV)/.installed-dev
	$(BIN)/mypy
	$(BIN)/mypy tests/lab tests/setup tests/e2e tests/conftest.py
	$(BIN)/pyright --pythonpath $(BIN)/python

check-imports: $(VENV)/.installed-dev
	$(BIN)/lint-imports

generate: $(VENV)/.installed-dev
	$(BIN)/python -m shipway_proto._generate
	$(BIN)/python -m shipway_agent._reference
	$(BIN)/python -m shipway_launcher._reference
	$(BIN)/python -m shipway_master._reference
	$(BIN)/python -m shipway_master.experiments.config._reference

clean:
	rm -rf $(VENV) .venv-det .venv-s3 .demo .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@if [ -z '$(PYTHON)' ]; then \
		echo 'Shipway needs Python 3.11 or newer with its venv module' \
			'(on Debian and Ubuntu: apt-get install python3-venv).' \
			'Name another one with PYTHON=/path/to/python3.' >&2; \
		exit 1; \
	fi
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --upgrade 'pip>=25.1'

$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable .
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet --editable . --group dev
	@touch $@ $(VENV)/.installed
