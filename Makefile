# make demo: set up, then photos to a verified bundle on embedded data.  make test: set up, then what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# uv is to trust whom the system trusts, as pip and git do
export UV_SYSTEM_CERTS := 1

.PHONY: help setup demo web rust browser engine test test-all check lint format rows figures lock clean

help:
	@echo "make setup     a virtual environment in .venv with everything (about 6 GB: PyTorch)"
	@echo "make demo      the main job on embedded data: photos to a verified bundle, a few minutes"
	@echo "make web       the browser runtime and its page, into the Python package (Node.js 20 and npm)"
	@echo "make rust      samesight-rs, into rust/target/release (Rust 1.92 or later)"
	@echo "make test      what CI runs: no GPU, no network once set up, under 10 minutes on 2 cores"
	@echo "make test-all  everything, with real photos where they are at hand"
	@echo "make check     make lint (ruff, mypy, generated docs), then make test"
	@echo "make rows      docs/rows.md: each feature and the tests that show it"
	@echo "make figures   run the real-photo benchmark and rewrite the README's tables (an hour)"

setup: $(VENV)/.ready

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Samesight needs Python 3.11 or later: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	touch $@

demo: setup
	$(BIN)/samesight demo --out demo

WEB := src/samesight/web/assets/page.js

web: $(WEB)

web/node_modules/.package-lock.json: web/package-lock.json
	cd web && npm ci --ignore-scripts --silent
	touch $@

$(WEB): web/node_modules/.package-lock.json web/build.mjs web/tsconfig.json $(shell find web/src web/demo -type f)
	cd web && npm run --silent build
	touch $@

rust:
	cd rust && cargo build --release

browser: # for the tests in a real browser: a Chromium, Debian's where there is none
	sh tests/setup_browser.sh

engine: setup # for the tests of real secure runs: an environment of its own (0.9 GB), where Python is 3.11
	$(BIN)/python tests/secure_engine.py

test: setup browser engine
	$(BIN)/python -m pytest -n 2 --durations=5

test-all: setup browser engine
	sh tests/setup_browser.sh firefox-esr
	$(BIN)/python -m pytest -m "" --durations=20

check: lint test

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tests/rows.py --check
	$(BIN)/python benchmarks/tables.py --check

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

rows: setup
	$(BIN)/python tests/rows.py

figures: setup
	$(BIN)/python benchmarks/real_photos.py
	$(BIN)/python benchmarks/tables.py

lock:
	$(BIN)/uv pip compile --universal --python-version 3.11 --no-emit-index-url --no-annotate --no-header \
		--extra dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
