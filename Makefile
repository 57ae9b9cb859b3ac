# Every target in one line; what they do is in the programs that they call.
.DEFAULT_GOAL := help
.PHONY: help setup run demo test test-faults bench lint format image k8s-check generate lock clean
PYTHON := .venv/bin/python
test-faults: DURATION ?= 900

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/ready ## The whole system on this machine, with a mail from each source; Ctrl-C stops it
	@.venv/bin/mailstream dev up

demo: .venv/ready ## The same, but it ends by itself: exit 0 when all sample mails are SENT
	@.venv/bin/mailstream dev up --demo

test: lint ## All tests but the long ones, on a real Kafka (what .ci/run calls)
	@$(PYTHON) -m tests

test-faults: .venv/ready ## The long tests: kills, pauses, cuts (DURATION=900 seconds of each, SEED=)
	@DURATION=$(DURATION) $(PYTHON) -m pytest -m long tests

bench: .venv/ready ## Emails per second, start with a backlog, accuracy of the gap
	@$(PYTHON) -m tests.benchmarks

lint: .venv/ready ## Format, lint, strict types, imports, spelling
	@.venv/bin/ruff format --check --quiet . && .venv/bin/ruff check --quiet .
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo
	@.venv/bin/codespell

format: .venv/ready ## Let the formatter and the linter mend what they can
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

image: ## Build the image mailstream:dev (BASE_IMAGE= for another base)
	@docker build --tag mailstream:dev $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) .

k8s-check: .venv/ready ## Validate the Kubernetes manifests, offline
	@$(PYTHON) -m pytest tests/contract/test_k8s.py

setup: .venv/ready ## The virtual environment .venv with everything in it, from the locked versions

.venv/ready: dev/setup.sh pyproject.toml requirements.lock requirements-build.lock
	@dev/setup.sh

generate: .venv/ready ## Write the files that follow from the code: schemas/, .env.example
	@$(PYTHON) -m dev.contract_files schemas
	@$(PYTHON) -m dev.env_example

lock: .venv/ready ## Resolve the versions again
	@dev/setup.sh lock

clean: ## Remove the data, logs and jars of make run (not .venv)
	@if [ -x .venv/bin/mailstream ]; then .venv/bin/mailstream dev clean; fi
