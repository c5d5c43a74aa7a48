# The menu: `make` lists it. Every target does its own set-up.
PYTHON ?= python3
SUITE ?= mini
SEEDS ?=
ENGINE ?= local
BENCH := .venv/bin/samiro-bench
# Byte-compiling all of torch and scipy up front takes longer than everything else. One import of what the harness uses compiles just
# that, and keeps it even where the environment tells Python not to: every process of a cell would compile it again.
COMPILE := env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -c 'from harness.torchvision_guard import ensure_torchvision as ready; ready(); import harness.phase_work, harness.probe, harness.publishing.publish, harness.training.pretraining, timm'
INSTALL := .venv/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-compile --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help setup bench plan status leaderboard test test-slow conformance benchmark lint publish verify

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:[^#]*## /|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'
	@echo "  options: SUITE=$(SUITE) (a name or a path), SEEDS= (a number), ENGINE=$(ENGINE)"

setup: .venv/.ready ## make .venv with the pinned environment

.venv/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer, or name one with PYTHON=..."; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than 3.11: name a newer one with PYTHON=..."; exit 2; }
	@test -x .venv/bin/python || $(PYTHON) -m venv .venv || { echo "python3 -m venv failed: on Debian and Ubuntu, apt install python3-venv"; exit 2; }
	$(INSTALL) --editable .
	@$(COMPILE)
	@touch $@

.venv/.ready-dev: .venv/.ready
	$(INSTALL) --editable '.[dev]'
	@env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest --version >/dev/null
	@touch $@

bench: .venv/.ready ## run a suite's matrix and write its leaderboard
	@$(BENCH) bench $(SUITE) --engine $(ENGINE) $(if $(SEEDS),--seeds $(SEEDS))

plan: .venv/.ready ## the cells of a suite and where each stands
	@$(BENCH) plan $(SUITE) $(if $(SEEDS),--seeds $(SEEDS))

status: .venv/.ready ## what is done, what failed and why
	@$(BENCH) status $(SUITE) $(if $(SEEDS),--seeds $(SEEDS))

leaderboard: .venv/.ready ## rebuild a suite's tables and page from its records
	@$(BENCH) leaderboard $(SUITE) $(if $(SEEDS),--seeds $(SEEDS))

publish: .venv/.ready ## copy a suite's tables and records to results/ and the README
	@$(BENCH) publish $(SUITE) $(if $(SEEDS),--seeds $(SEEDS))

verify: .venv/.ready ## score every published row of a suite again
	@$(BENCH) verify $(SUITE)

test: .venv/.ready-dev ## the default tests
	@.venv/bin/python -m pytest --numprocesses auto --dist loadfile

test-slow: .venv/.ready-dev ## the long tests
	@.venv/bin/python -m pytest --numprocesses auto --dist loadfile -m slow

conformance: .venv/.ready ## the battery that every adapter must pass, on the micro detectors
	@$(BENCH) detectors check

benchmark: .venv/.ready-dev ## the speed figures of docs/performance.md
	@.venv/bin/python -m pytest tests/benchmarks --benchmark-only

lint: .venv/.ready-dev ## ruff and mypy
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
