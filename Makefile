# The menu: `make` lists it. Every target does its own set-up.
PYTHON ?= python3
SUITE ?= mini
SEEDS ?=
TIER ?=
ENGINE ?= local
# Emptied: make itself calls the assembler AS, and a submission of that name would be packed where none is given.
AS =
# A word of the shell's, whatever it holds: O'Brien has an apostrophe.
WORD = '$(subst ','\'',$(1))'
BENCH := .venv/bin/samiro-bench
CELLS = $(if $(SEEDS),--seeds $(SEEDS)) $(if $(TIER),--tier $(TIER))
# Byte-compiling all of torch and scipy up front takes longer than everything else. One import of what the harness uses compiles just
# that, and keeps it even where the environment tells Python not to: every process of a cell would compile it again.
COMPILE := env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -c 'from harness.pytorch.torchvision_guard import ensure_torchvision as ready; ready(); import harness.cell.predict, harness.cell.score, harness.cell.timing, harness.matrix.probe, harness.publishing.publish, harness.training.pretraining, timm'
INSTALL := .venv/bin/python -m pip --disable-pip-version-check --no-input install --quiet --no-compile --constraint constraints.txt

# A step of the set-up: silent where it works; where it fails its last words, and what to install, free or set.
OR_ADVICE = said=$$($(1) 2>&1) || { echo "$$said" | tail -n 20 >&2; $(ADVICE); exit 2; }
define ADVICE
case "$$said $$(df -Pk . | awk 'NR == 2 && $$4 < 200000 { print "No space left on device" }')" in \
*"Permission denied"* | *"Read-only file system"* | *"Unable to create directory"*) echo "set-up: .venv can't be made in $$PWD: make the folder writable, move away what is called .venv, or clone elsewhere" ;; \
*"No space left"* | *"quota exceeded"*) echo "set-up: the disk is full: .venv takes 2 GB, and several more with torch's CUDA build: make room here and in $${TMPDIR:-/tmp}, then run the same again" ;; \
*ensurepip* | *"No module named venv"*) echo "set-up: $(PYTHON) has no venv: on Debian and Ubuntu, apt install python3-venv; then run the same again" ;; \
*"different Python"*) echo "set-up: .venv was made by an older Python: remove the folder, then run the same again" ;; \
*"No matching distribution"* | *"Could not find a version"* | *"timed out"* | *Connection* | *"name resolution"* | *ProxyError* | *SSLError*) echo "set-up: pip finds no packages: is there a network? Behind a proxy set HTTPS_PROXY; PIP_INDEX_URL=... names a mirror, PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER a folder of wheels" ;; \
*) echo "set-up: the step failed as said above; the same command tries it again" ;; \
esac >&2
endef

.DEFAULT_GOAL := help
.PHONY: help setup bench plan status leaderboard test test-slow conformance benchmark lint publish verify submit review

help: ## this menu
	@echo 'SAMIRO-Bench: does a training-time method make this lane detector better? Begin with `make bench`.'
	@awk -F ': .*## ' '/^##@ / { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+: .*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile
	@echo
	@echo "SUITE=$(SUITE) is a name of suites/ or a path, SEEDS= a number, TIER= a tier, ENGINE=$(ENGINE) or slurm or ray."
	@echo "More verbs: .venv/bin/samiro-bench (after setup). Documentation: docs/README.md"

##@ Run a suite
bench: .venv/.ready ## run a suite and write its leaderboard: mini takes five minutes on two cores
	@$(BENCH) bench "$(SUITE)" --engine $(ENGINE) $(CELLS)

plan: .venv/.ready ## what would run, where each cell stands, and what it costs
	@$(BENCH) plan "$(SUITE)" $(CELLS)

status: .venv/.ready ## what is done, what failed and why
	@$(BENCH) status "$(SUITE)" $(CELLS)

leaderboard: .venv/.ready ## make tables and page again from the records
	@$(BENCH) leaderboard "$(SUITE)" $(CELLS)

##@ Publish and check results
publish: .venv/.ready ## copy a suite's tables, records and predictions to results/
	@$(BENCH) publish "$(SUITE)" $(CELLS)

verify: .venv/.ready ## score a suite's published rows again from their predictions
	@$(BENCH) verify "$(SUITE)"

submit: .venv/.ready ## pack finished rows for a pull request: AS=name WHO='You' CONTACT=https://...
	@$(BENCH) submit "$(SUITE)" --as $(call WORD,$(AS)) --who $(call WORD,$(WHO)) --contact $(call WORD,$(CONTACT)) $(if $(TIER),--tier $(TIER))

review: .venv/.ready ## score a submission again as CI does: AS=name
	@$(BENCH) review "results/submissions/$(SUITE)/$(AS)"

##@ Check the code
test: .venv/.ready-dev ## the default tests
	@.venv/bin/python -m pytest --numprocesses auto --dist loadfile

test-slow: .venv/.ready-dev ## the long tests
	@.venv/bin/python -m pytest --numprocesses auto --dist loadfile -m slow

conformance: .venv/.ready ## the battery that every adapter must pass, on the *_micro detectors
	@$(BENCH) detectors check

benchmark: .venv/.ready-dev ## the speed figures of docs/performance.md
	@.venv/bin/python -m pytest -s tests/benchmarks --benchmark-only

lint: .venv/.ready-dev ## ruff and mypy
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy

##@ Set up
setup: .venv/.ready ## make .venv with the pinned packages; the targets above do it by themselves

.venv/.ready: pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: install Python 3.11 or newer, or name one with PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is `$(PYTHON) -V 2>&1`, and 3.11 or newer is needed: install one, and name it with PYTHON=..." >&2; exit 2; }
	@.venv/bin/python -m pip --version >/dev/null 2>&1 || { $(call OR_ADVICE,$(PYTHON) -m venv .venv); }
	@echo "installing the packages of constraints.txt into .venv (once; minutes where pip has to fetch them)"
	@$(call OR_ADVICE,$(INSTALL) --editable .)
	@$(COMPILE)
	@touch $@

.venv/.ready-dev: .venv/.ready
	@$(call OR_ADVICE,$(INSTALL) --editable '.[dev]')
	@env -u PYTHONDONTWRITEBYTECODE .venv/bin/python -m pytest --version >/dev/null
	@touch $@
