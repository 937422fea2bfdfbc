# make and Python 3.11 or newer are all that a machine must have.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --no-input -qq
ARGS ?=
# Files and classes of tests side by side: they wait more than they compute.
TESTS_AT_ONCE ?= 4
# Every process would compile all modules anew where the environment forbids to keep what was compiled.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help up setup setup-dev test check format bench bench-quick faults hostile model containers clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: setup  ## start everything on this machine, at http://localhost:8000 (options: make up ARGS="--demo")
	@exec $(BIN)/citycache up $(ARGS)

setup: $(VENV)/.runtime  ## install what `make up` needs into .venv

setup-dev: $(VENV)/.dev

test: setup-dev  ## install what the tests need, then run all of them (some: make test ARGS="tests/unit -k patch")
	@scripts/install-test-servers
	@$(BIN)/python -m pytest -n $(TESTS_AT_ONCE) --dist loadscope --no-loadscope-reorder --durations=30 --durations-min=10 $(ARGS)

check: setup-dev  ## format, lint, types, import contracts, and whether every test can be loaded
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null || $(BIN)/python -m pytest --collect-only -q

format: setup-dev  ## rewrite the code in the project's format
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: setup-dev  ## all benchmarks (takes long)
	@$(BIN)/citycache bench $(ARGS)

bench-quick: setup-dev  ## small benchmarks, to see that they run
	@$(BIN)/citycache bench --quick $(ARGS)

faults: setup-dev  ## kill processes, servers and connections while the real feed plays (ARGS="--seed 7 --minutes 20")
	@scripts/install-test-servers
	@$(BIN)/python -m tests.faults $(ARGS)

hostile: setup-dev  ## send what nobody who means well sends, by every way in (ARGS="--seed 7 --minutes 10")
	@scripts/install-test-servers
	@$(BIN)/python -m tests.hostile $(ARGS)

model: setup-dev  ## check the models in all states, and the real statements in all interleavings (ARGS="models": a part)
	@scripts/install-test-servers
	@$(BIN)/python -m tests.model $(ARGS)

containers: setup-dev  ## the compose set-ups on a container engine of its own (root; ARGS="production": a part)
	@$(BIN)/python -m tests.containers $(ARGS)

clean:  ## remove .venv and what tools have cached; the data in .citycache stays
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "citycache needs Python 3.11 or newer; $(PYTHON) is `$(PYTHON) --version 2>&1 || echo not there`." >&2; \
	  echo "Name another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml $(VENV)/.made
	@echo "Installing into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml $(VENV)/.made
	@echo "Installing into $(VENV) ..."
	@$(PIP) install --require-hashes -r requirements-dev.lock
	@$(PIP) install --no-deps --no-build-isolation -e .
	@touch $(VENV)/.runtime $@
