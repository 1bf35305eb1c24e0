# Two commands do everything on a fresh machine: `make demo` and `make test`. Each says what it does and is quick when run again.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO := outputs/demo.png
# A process for each core, one thread each: small models gain nothing from a second thread, and threads that wait for one another
# across busy cores take fifty times as long.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses auto --dist worksteal

NPM := npm --prefix web --no-update-notifier
PAGE := src/loraloom/web/static
PAGE_READY := web/node_modules/.ready

.PHONY: help demo test test-long lint types page page-check format clean

help:
	@echo "make demo       draw a sheet with the embedded base and its LoRAs (sets up $(VENV) first)"
	@echo "make test       lint, types and every law at its small size (sets up $(VENV) first)"
	@echo "make test-long  the same laws at full size, and the benchmarks with a verdict"
	@echo "make page       build the web page's script and style into $(PAGE) (needs node)"
	@echo "make format     ruff format and safe fixes"
	@echo "make clean      remove $(VENV) and caches"

# The pinned torch goes first: a plain `torch` would pull several gigabytes of CUDA packages where a CPU build is at hand.
$(READY): pyproject.toml constraints.txt
	@echo "==> setting up $(VENV) (once; about two minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable ".[dev]"
	@touch $@

demo: $(READY)
	@echo "==> drawing with the embedded base: rows are prompts; columns are LoRAs and strengths"
	$(BIN)/loraloom grid "red apple" "cat face" "rocket" "castle" "bobbin, orange thread, laughing, waving" \
		--column "delft 0.5=zvz <lora:delft:0.5>" --column "delft 1.0=zvz <lora:delft:1>" \
		--column "mulberry 0.5=qlx <lora:mulberry:0.5>" --column "mulberry 1.0=qlx <lora:mulberry:1>" \
		--column "bobbin 0.5=<lora:bobbin:0.5>" --column "bobbin 1.0=<lora:bobbin:1>" \
		--column "delft + bobbin=zvz <lora:delft:0.8> <lora:bobbin:0.8>" \
		--seed 7 --output $(DEMO) --overwrite
	@echo "==> $(DEMO) is yours to look at. Next:"
	@echo "    $(BIN)/loraloom generate 'octopus, zvz <lora:delft:0.8>' --pictures 4"
	@echo "    $(BIN)/loraloom example && $(BIN)/loraloom train examples/delft --trigger zvz --output mine"
	@echo "    $(BIN)/loraloom list"

test: $(READY) lint types page-check
	@echo "==> tests"
	$(PYTEST) -m "not long"

test-long: $(READY) lint types page-check
	@echo "==> tests at full size"
	$(PYTEST)
	@echo "==> style fidelity"
	$(BIN)/python -m tools.loras pictures
	$(BIN)/python -m benchmarks.style_fidelity --check

lint: $(READY)
	@echo "==> lint"
	$(BIN)/ruff format --check --quiet .
	$(BIN)/ruff check --quiet .

types: $(READY)
	@echo "==> types"
	$(BIN)/mypy

$(PAGE_READY): web/package.json web/package-lock.json
	@command -v npm >/dev/null || { echo "the web page is built with node 20.19 or later: https://nodejs.org"; exit 1; }
	@echo "==> fetching what the page is built with (once)"
	$(NPM) ci --silent
	@touch $@

# What the page is built from, in the order in which one comes from the other.
page: $(READY) $(PAGE_READY)
	$(BIN)/python -m tools.openapi web/src/api/openapi.json
	$(BIN)/python -m tools.prompt_cases web/tests/prompt/cases.json
	$(NPM) run --silent types
	$(NPM) run --silent build

# The committed page is the one that its source gives, byte for byte.
page-check: $(PAGE_READY)
	@echo "==> page: types, lint, laws, and the same bytes from its source"
	$(NPM) run --silent check
	$(NPM) run --silent build -- --outDir ../build/page --logLevel warn
	diff --recursive --brief build/page $(PAGE) || { echo "the built page is not that of its source: make page"; exit 1; }

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) web/node_modules build/page .pytest_cache .mypy_cache .ruff_cache
