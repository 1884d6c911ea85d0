# Everything a fresh machine needs is Python 3.11 to 3.13 with venv, and make.
PYTHON ?= $(firstword $(foreach p,python3.12 python3.13 python3.11 python3,$(if $(shell $(p) -c 'import sys, venv, ensurepip; print(int((3, 11) <= sys.version_info[:2] <= (3, 13)))' 2>/dev/null | grep 1),$(p))))
VENV ?= .venv
BIN := $(VENV)/bin
LOCK := uv pip compile --universal --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet
UPGRADE ?= --upgrade

# Some machines set it. Each process would then compile the package again, which takes as long as Dagster's own start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help venv run test test-fast check lint audit sbom docs links bench fuzz-api lock clean faults fuzz

help: ## list these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

venv: $(VENV)/.ready ## create the Python environment from the lock file
$(VENV)/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python 3.11, 3.12 or 3.13 with the venv module was found. Install one (Debian: apt install python3-venv), or name it: make PYTHON=/path/to/python3.12"; exit 1; }
	@PYTHON="$(PYTHON)" VENV="$(VENV)" sh ./install.sh
	@touch $@

run: venv ## start the database, the Dagster UI and the first weeks; Ctrl-C stops everything
	@exec $(BIN)/otc-assets up

test: venv ## run all tests, one process per CPU
	$(BIN)/python -m pytest --numprocesses logical --dist loadfile --no-loadscope-reorder $(ARGS)

test-fast: venv ## run the tests that are not marked slow, one process per CPU: under a minute
	$(BIN)/python -m pytest -m "not slow" --numprocesses logical --dist worksteal $(ARGS)

faults: venv ## try every fault at every point of every asset, and 200 rounds of processes at once: some hours; LEVEL=kinds for one of each kind: half an hour
	OTC_TEST_FAULTS=$(or $(LEVEL),all) $(BIN)/python -m pytest tests/faults tests/defs/test_two_years.py --numprocesses logical --dist worksteal $(ARGS)

check: lint ## run lint, and look for dead code and imports that run upward
	$(BIN)/vulture
	$(BIN)/lint-imports

lint: venv ## run ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

audit: venv ## check the pinned packages for known vulnerabilities, and their licences: docs/security.md
	$(BIN)/python -m supply_chain.audit

sbom: venv ## write the bill of materials of the package to dist/sbom.cdx.json (CycloneDX)
	@mkdir -p dist
	$(BIN)/python -m supply_chain.sbom dist/sbom.cdx.json

docs: venv ## build the documentation site into docs/_build/html; a warning is an error
	$(BIN)/python -m sphinx -q -W --keep-going docs docs/_build/html
	@echo "open docs/_build/html/index.html"

links: venv ## check the links of the documentation to other sites (needs the network)
	$(BIN)/python -m sphinx -q -b linkcheck docs docs/_build/links

bench: venv ## run the short benchmarks and compare their ratios with the recorded ones: docs/benchmarks.md
	$(BIN)/python -m benchmarks

# In a folder of its own, so that the environment has no package that requirements.lock does not have.
FUZZ := $(VENV)/fuzz
$(FUZZ)/.ready: requirements-fuzz.lock $(VENV)/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: --require-hashes --upgrade --target $(FUZZ) --requirement requirements-fuzz.lock
	@touch $@

fuzz: $(FUZZ)/.ready ## fuzz every reader of foreign bytes, guided by coverage (Linux, x86-64): EACH=45 seconds for each, TARGETS="..." for some
	PYTHONPATH=$(FUZZ) $(BIN)/python tests/fuzz/run.py --seconds $(or $(EACH),45) $(TARGETS)

fuzz-api: venv ## make many requests from the description of the HTTP API, and check each response: about ten minutes
	OTC_TEST_API_EXAMPLES=$(or $(EXAMPLES),100) $(BIN)/python -m pytest tests/api/test_description.py $(ARGS)

lock: ## upgrade the lock files to the newest versions (needs uv); with UPGRADE= only what pyproject.toml needs changes
	$(LOCK) pyproject.toml $(UPGRADE) --extra embedded --extra client --group dev --output-file requirements.lock
	$(LOCK) pyproject.toml --constraint requirements.lock --output-file requirements-server.lock
	$(LOCK) --group pyproject.toml:image --constraint requirements.lock --output-file requirements-build.lock
	$(LOCK) --group pyproject.toml:fuzz $(UPGRADE) --output-file requirements-fuzz.lock

clean: ## remove the Python environment
	rm -rf $(VENV)
