# What people type. Everything lands in .venv; nothing else on the machine is touched.
# The local control plane keeps what it builds in ~/.cache/atlhyper, the running system its data in ATLHYPER_HOME.

.DEFAULT_GOAL := help
SHELL := /bin/sh

UV_VERSION := 0.13.8
BIN := .venv/bin
READY := .venv/.ready
# A lock file is the truth: uv neither changes it nor fetches an interpreter behind anybody's back.
UV := UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV= UV_PROJECT_ENVIRONMENT=.venv $(BIN)/uv --quiet

# The first interpreter that is new enough; PYTHON=/path/to/python3 chooses another.
PYTHON ?= $(shell for name in python3.13 python3.12 python3.11 python3; do \
	if $$name -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; \
	then echo $$name; break; fi; done)

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: up
up: $(READY) ## Start everything and attach a cluster; Ctrl-C stops it, the data stays
	@exec $(BIN)/atlhyper up

.PHONY: test
test: $(READY) ## Run every test (TESTS=tests/unit for some of them)
	@$(BIN)/python -m tests $(TESTS)

.PHONY: check
check: $(READY) ## Lint, types, import contracts, spelling, generated files
	@echo "ruff check" && $(BIN)/ruff check --quiet
	@echo "ruff format" && $(BIN)/ruff format --quiet --check
	@echo "mypy" && $(BIN)/mypy --no-error-summary
	@echo "lint-imports" && $(BIN)/lint-imports > .venv/lint-imports.log || { cat .venv/lint-imports.log; exit 1; }
	@echo "codespell" && $(BIN)/codespell
	@echo "generate --check" && $(BIN)/python -m services.cli.generate --check

.PHONY: format
format: $(READY) ## Format the code and repair what ruff can repair
	@$(BIN)/ruff check --quiet --fix-only && $(BIN)/ruff format

.PHONY: generate
generate: $(READY) ## Write the generated files anew: schemas, AsyncAPI, OpenAPI, reference, deploy/nats
	@$(BIN)/python -m services.cli.generate

.PHONY: docs
docs: $(READY) ## Build the documentation into docs/_build; every warning is an error
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going --nitpicky --jobs auto docs docs/_build
	@echo "docs/_build/index.html"

.PHONY: bench
bench: $(READY) ## Measure, beside the reference figures (BENCH="fleet events" for some of them)
	@$(BIN)/python -m benchmarks $(BENCH)

.PHONY: faults
faults: $(READY) ## Break everything in turn, for hours (FAULTS="--short --seeds 1 --commands 0" for three minutes of it)
	@$(BIN)/python -m tests.faults $(FAULTS)

.PHONY: schemathesis
schemathesis: $(READY) ## Ask the api whatever its document allows, for ten minutes (SECONDS=3600 for longer)
	@SCHEMATHESIS_SECONDS=$(or $(SECONDS),600) $(BIN)/pytest tests/api/test_schemathesis.py

.PHONY: cluster
cluster: $(READY) ## Start a real control plane without Docker, with something of every kind inside
	@$(BIN)/python -m services.cli.cluster up --demo

.PHONY: cluster-down
cluster-down: $(READY) ## Stop that control plane; its data stays
	@$(BIN)/python -m services.cli.cluster down

.PHONY: cluster-status
cluster-status: $(READY) ## Show its components
	@$(BIN)/python -m services.cli.cluster status

.PHONY: clean
clean: ## Remove .venv and caches of tools
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

# Made once, and again only after a change of the lock file.
$(READY): pyproject.toml uv.lock
	@test -n "$(PYTHON)" || { \
		echo "error: no Python of at least 3.11 with its venv module found" >&2; \
		echo "  next: install one (Debian and Ubuntu: python3 python3-venv; macOS: brew install python), or set PYTHON=/path/to/python3" >&2; \
		exit 1; }
	@test -x $(BIN)/python || { echo "making .venv with $(PYTHON)" >&2; "$(PYTHON)" -m venv .venv; }
	@test "$$($(BIN)/uv --version 2>/dev/null | cut -d' ' -f2)" = "$(UV_VERSION)" || \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@echo "installing what uv.lock names" >&2
	@$(UV) sync --locked --inexact --compile-bytecode --python $(BIN)/python
	@touch $@
