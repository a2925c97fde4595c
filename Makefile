# `make` checks everything that CI checks; `make test` alone leaves out the tests that are marked slow.
PYTHON ?= python

.PHONY: all lint format test test-all bench fixtures readme schemas

all: lint test-all

lint:
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -m mypy --platform win32
	$(PYTHON) -m mypy --platform darwin
	$(PYTHON) -m cogapp --check README.md CONTRIBUTING.md
	$(PYTHON) docs/make_schemas.py --check

format:
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

test:
	$(PYTHON) -m pytest -n auto -m "not slow"

test-all:
	$(PYTHON) -m pytest -n auto

bench:
	$(PYTHON) benchmarks/run.py

fixtures:
	$(PYTHON) fixtures/make_fixtures.py

readme:
	$(PYTHON) -m cogapp -r README.md CONTRIBUTING.md

schemas:
	$(PYTHON) docs/make_schemas.py
