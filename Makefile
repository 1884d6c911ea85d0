# Everything a fresh machine needs is Python 3.11 to 3.13 with venv, and make.
PYTHON ?= $(firstword $(foreach p,python3.12 python3.13 python3.11 python3,$(if $(shell $(p) -c 'import sys, venv, ensurepip; print(int((3, 11) <= sys.version_info[:2] <= (3, 13)))' 2>/dev/null | grep 1),$(p))))
VENV ?= .venv
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv run test lint bench lock clean

help: ## what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

venv: $(VENV)/.ready ## the Python environment alone, from the lock file
$(VENV)/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with the venv module was found. Install one (Debian: apt install python3-venv), or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "making the Python environment in $(VENV) (about a minute)"
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@touch $@

run: venv ## database, migrations, first weeks and the Dagster UI; Ctrl-C stops everything
	@exec $(BIN)/otc-assets up

test: venv ## all tests
	$(BIN)/python -m pytest $(ARGS)

lint: venv ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: venv ## the benchmarks, printed as ratios; more of them: docs/benchmarks.md
	$(BIN)/python -m benchmarks

lock: ## writes requirements.lock anew (needs uv)
	uv pip compile pyproject.toml --group dev --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet --upgrade --output-file requirements.lock

clean: ## removes the environment
	rm -rf $(VENV)
