# Everything that a person or CI does with this tree. `make` alone lists it.
#
# Each target brings the environment that it needs in line with its lock first: about a minute on a new machine, a quarter
# of a second after that. Nothing but python3 (3.11 or later) and a package index that pip can reach is assumed.

PYTHON ?= python3
TESTS ?= tests
AWS_TESTS ?= tests/aws
PYTEST_ARGS ?=
SUITE_ARGS ?=
BENCH_ARGS ?=
FUZZ_ARGS ?=
SIMULATE_ARGS ?=
UPGRADE ?=
LAMBDA_ARGS ?=

VENV := .venv/bin
SUITE_VENV := .venv-chroma/bin
AWS_VENV := .venv-aws/bin
LOCK := uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate --no-emit-index-url --no-header $(UPGRADE)

.DEFAULT_GOAL := help
# `make test` takes the short form of Chroma's suite; the long one takes half an hour.
.PHONY: help demo test test-python test-chroma test-chroma-short test-aws test-dynamodb lambda scale load chaos migrate-live simulate fuzz lint types format bench docs lock env env-chroma env-aws clean

help:  ## list the targets (this is the default)
	@echo 'usage: make TARGET'
	@echo
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-14s %s\n", $$1, $$2 }'
	@echo
	@echo 'one test:      make test-python TESTS=tests/unit/test_house_rules.py'
	@echo 'other Python:  make PYTHON=python3.12 test'

demo: env  ## half a minute of Chromalith, on a folder of this machine
	@$(VENV)/chromalith demo

test: test-python test-aws test-chroma-short  ## all tests: ours, those on AWS's emulators, the short form of Chroma's own suite

test-python: env  ## our own tests, on all cores; TESTS=path and PYTEST_ARGS=… narrow them
	$(VENV)/python -m pytest -n auto --maxprocesses 4 --dist worksteal $(PYTEST_ARGS) $(TESTS)

test-chroma: env-chroma  ## all of Chroma's own tests that are claimed to pass, on our client
	$(SUITE_VENV)/python tests/chroma/run.py $(SUITE_ARGS)

test-chroma-short: env-chroma
	$(SUITE_VENV)/python tests/chroma/run.py --short $(SUITE_ARGS)

test-aws: env-aws  ## what runs on AWS: Lambda's own runtime, queues, locks, roles and infrastructure, on emulators
	$(AWS_VENV)/python -m pytest -n 3 --dist loadgroup $(PYTEST_ARGS) $(AWS_TESTS)

lambda: env  ## build/lambda.zip, for the functions on AWS; LAMBDA_ARGS="--architecture arm64"
	$(VENV)/python scripts/build_lambda.py $(LAMBDA_ARGS)

test-dynamodb: env-aws  ## the lock on AWS's own DynamoDB Local; needs npm, and Java with its compiler
	$(AWS_VENV)/python -m pytest $(PYTEST_ARGS) tests/aws/dynamodb_local

load: env  ## 64 writer processes on one collection for a minute, on a real S3 server: acknowledged = present
	$(VENV)/python -m pytest -s -m slow tests/scale/test_load.py

chaos: env  ## processes killed 300 times and the server 10 times, on a real S3 server: ten to twenty minutes
	$(VENV)/python -m pytest -s -m slow tests/chaos

scale: env  ## sixteen writer processes on a real S3 server, and a million deltas of 100,000 writers: three minutes
	$(VENV)/python -m pytest -s -m slow tests/scale/test_many_writers.py tests/scale/test_folded_set.py

migrate-live: env  ## long forms of migration: many processes, killed and interrupted in every phase; its exhaustive model: more than an hour
	$(VENV)/python -m pytest -s -m slow tests/migrate tests/model

simulate: env  ## whole histories with faults, from fresh seeds, until stopped; SIMULATE_ARGS="--minutes 10"
	$(VENV)/python -m chromalith.testing.simulator $(SIMULATE_ARGS)

fuzz: env  ## bad bytes for every decoder, ten minutes; FUZZ_ARGS="--seconds 3600 --target delta"
	$(VENV)/python -m tests.fuzz.run $(FUZZ_ARGS)

lint: env  ## style, formatting of scripts, and the layers
	$(VENV)/ruff check
	$(VENV)/lint-imports --no-cache

types: env env-aws  ## mypy, strict; of the Pulumi program with the environment that it runs in
	$(VENV)/mypy
	MYPYPATH=infra/chromadb_compaction $(VENV)/mypy --cache-dir .mypy_cache/infra --python-executable $(AWS_VENV)/python infra/chromadb_compaction

format: env  ## what ruff can repair by itself
	$(VENV)/ruff check --fix
	$(VENV)/ruff format

bench: env  ## the claims of the design, measured side by side; BENCH_ARGS=--small for a smoke run
	$(VENV)/python -m bench $(BENCH_ARGS)

docs: env  ## check that the documents say what the code does
	$(VENV)/python -m pytest $(PYTEST_ARGS) tests/docs

lock: env  ## write the locks anew; UPGRADE=--upgrade takes newer releases
	cd requirements && ../$(VENV)/$(LOCK) pip.in --output-file pip.lock
	cd requirements && ../$(VENV)/$(LOCK) --all-extras ../pyproject.toml dev.in --output-file dev.lock
	cd requirements && ../$(VENV)/$(LOCK) --extra aws ../pyproject.toml aws-suite.in --output-file aws-suite.lock
	cd requirements && ../$(VENV)/$(LOCK) lambda.in --output-file lambda.lock
	cd requirements && ../$(VENV)/$(LOCK) lambda-image.in --output-file lambda-image.lock
	cd requirements && ../$(VENV)/$(LOCK) --extra chroma ../pyproject.toml chroma-suite.in --output-file chroma-suite.lock

env:
	@$(PYTHON) scripts/bootstrap.py dev

env-chroma:
	@$(PYTHON) scripts/bootstrap.py chroma-suite

env-aws:
	@$(PYTHON) scripts/bootstrap.py aws-suite

clean:  ## remove the environments, and what tools left behind
	rm -rf .venv .venv-chroma .venv-aws .demo build dist bench/.work .hypothesis .pytest_cache
	find . -name .git -prune -o \( -name __pycache__ -o -name .mypy_cache -o -name .ruff_cache \) -prune -exec rm -rf {} +
