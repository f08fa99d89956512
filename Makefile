# Everything happens in .venv; a target sets up what it needs. Another interpreter: make PYTHON=python3.13 test
# What is installed there is the newest that pyproject.toml admits. With LOCKED=1 it is what requirements/dev.txt says,
# held against its hashes, in .venv-locked.
PYTHON ?= python3
VENV := .venv$(if $(LOCKED),-locked)
BIN := $(VENV)/bin
RELEASE := .venv-release
RUNTIME := .venv-runtime
COOLDOWN := 7 days
IMAGE_EXTRAS := anonymize attach gcs notify postgres remote s3 scan tls
INTO := lab-recordings
# Bytecode is written of what is imported, when it is: of all that is installed it takes longer than the demo itself.
PIP := PIP_COMPILE=0 $(BIN)/python -m pip --disable-pip-version-check -qq
unexport PYTHONDONTWRITEBYTECODE
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
    --upgrade --exclude-newer "$(COOLDOWN)" --custom-compile-command "make lock"
KERNELS := $(wildcard $(addprefix pcapdiag/,*/kernels/*.py */*/kernels/*.py engine/compiler/*.py base/codes.py base/columns.py))
HAS_KERNELS := import importlib.util, sys; from pcapdiag.engine.compiler import library, naming; \
    sys.exit(not (naming.find_library(library.FOLDER, naming.library_stem()) or importlib.util.find_spec('numba')))
DEMO := captures/idle_close_race_65s
DEMO_INPUT := $(DEMO)/proxy.pcap --error-log $(DEMO)/error.log --access-log $(DEMO)/access.log --proxy-conf $(DEMO)/nginx.conf

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test test-all test-long test-lab test-lowest test-newest lint docs site bench race captures world lock audit sbom dist clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-16s %s\n", $$1, $$2 }'

demo: $(VENV)/.kernels ## analyze a real incident and print the report
	@$(BIN)/pcapdiag analyze $(DEMO_INPUT) || test $$? -eq 1 # 1 says that there are findings

test: $(VENV)/.dev ## run the tests: compiled, and what runs kernels with bounds checks again
	@$(BIN)/python tests/modes.py

test-all: $(VENV)/.dev ## the same, whole programs and servers, and, for coverage of the kernels, without the compiler
	@$(BIN)/python tests/modes.py --all

test-long: $(VENV)/.dev ## the tests that take or wait long, beyond those of make test
	@$(BIN)/python -m pytest -q -m long

test-lab: $(VENV)/.lab ## incidents made live by real servers in network namespaces, and what is said of them; needs root
	@$(BIN)/python -m pytest -q tests/lab

test-lowest: ## what goes through other libraries, with the oldest that pyproject.toml admits
	@$(PYTHON) tests/versions.py lowest

test-newest: ## the same with the newest of them
	@$(PYTHON) tests/versions.py newest

lint: $(VENV)/.dev ## style, types, layers, docstrings; whether generated docs are current
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports > $(VENV)/layers.log || { cat $(VENV)/layers.log; exit 1; }
	@$(BIN)/python -m pytest -q tests/test_house.py tests/test_docs.py
	@echo "lint: nothing to complain about"

docs: $(VENV)/.dev ## write the generated docs anew
	@$(BIN)/python docs/generate.py

site: $(VENV)/.dev ## the documentation as a site, in build/site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

bench: $(VENV)/.dev ## measure side by side with other tools; takes minutes and 8 GB in benchmarks/data
	@$(BIN)/python benchmarks/run.py

race: $(VENV)/.lab ## make an idle-close race with real servers, and print the report on it; needs root
	@$(BIN)/python -m tests.lab.record idle_race --show

captures: $(VENV)/.lab ## record the lab's incidents as cases: make captures INTO=folder SCENARIOS="idle_race ..."; needs root
	@$(BIN)/python -m tests.lab.record --cases --into $(INTO) $(SCENARIOS)

lock: $(VENV)/.lock ## renew requirements/ with the newest versions that are a week old: COOLDOWN="0 days" for those of today
	@$(LOCK) pyproject.toml --group test --group lint --group site --group lab --output-file requirements/dev.txt
	@$(LOCK) pyproject.toml --constraint requirements/dev.txt --output-file requirements/runtime.txt
	@$(LOCK) pyproject.toml $(addprefix --extra ,$(IMAGE_EXTRAS)) --constraint requirements/dev.txt --output-file requirements/image.txt
	@$(LOCK) --group release --constraint requirements/dev.txt --output-file requirements/release.txt

audit: $(RELEASE)/.done ## ask whether versions in requirements/ are known to be vulnerable
	@$(RELEASE)/bin/python tests/audit.py

sbom: $(RELEASE)/.done $(RUNTIME)/.done ## list what comes with pcapdiag, as CycloneDX JSON in dist/
	@mkdir -p dist
	@$(RELEASE)/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml --mc-type application \
	    --output-file dist/pcapdiag.cdx.json $(RUNTIME)/bin/python

dist: sbom | $(VENV)/.dev ## build wheel and sdist into dist/, and see that they are what SECURITY.md promises
	@rm -f dist/*.whl dist/*.tar.gz
	@$(RELEASE)/bin/python tests/dist/release.py dist
	@$(BIN)/python -m pytest -q -m dist tests/dist

world: $(VENV)/.dev ## every capture below a folder, beside tshark, and why they differ: make world FOLDER=folder
	@test -n "$(FOLDER)" || { echo "say which: make world FOLDER=folder" >&2; exit 1; }
	@$(BIN)/python -m tests.world "$(FOLDER)"

clean: ## remove everything that make made
	rm -rf .venv .venv-*
	rm -rf benchmarks/data lab-recordings build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	rm -f .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "pcapdiag needs Python 3.11 or later; say which: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "Setting up $(VENV) ..." >&2
	@$(PYTHON) -m venv $(VENV) || \
	    { echo "$(PYTHON) cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	@touch $@

$(VENV)/.groups: | $(VENV)/.demo
ifndef LOCKED
	@$(PIP) install --upgrade "pip>=25.1" # the first that knows dependency groups
endif
	@touch $@

# $(1): the groups beside pcapdiag itself. A lock is installed whole: its tools build the kernels as well.
ifdef LOCKED
define install
$(PIP) install --require-hashes --requirement requirements/dev.txt
@$(PIP) install --no-deps --no-build-isolation --editable .
endef
else
install = $(PIP) install --editable . $(addprefix --group ,$(1))
endif

$(VENV)/.demo: pyproject.toml $(if $(LOCKED),requirements/dev.txt) | $(VENV)/.pip
	@echo "Installing pcapdiag into $(VENV) ..." >&2
	@$(call install)
	@touch $@

# Where numba is, the first command builds them after an edit; where it is not, pip does.
$(VENV)/.kernels: $(KERNELS) | $(VENV)/.demo
	@$(BIN)/python -P -c "$(HAS_KERNELS)" || { rm -f $(VENV)/.demo; $(MAKE) --no-print-directory $(VENV)/.demo; }
	@touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/.groups
	@echo "Installing what tests and checks need into $(VENV) ..." >&2
	@$(call install,test lint site)
	@touch $@

$(VENV)/.lab: pyproject.toml | $(VENV)/.dev
	@echo "Installing the servers of the lab into $(VENV) ..." >&2
	@$(call install,lab)
	@touch $@

$(VENV)/.lock: pyproject.toml | $(VENV)/.groups
	@$(PIP) install --group lock
	@touch $@

# Made anew when its lock changes: nothing else may be in it, not even pip, which would stand in the SBOM.
.venv-%/.done: requirements/%.txt | $(VENV)/.pip
	@echo "Setting up .venv-$* ..." >&2
	@$(PYTHON) -m venv --clear --without-pip .venv-$*
	@$(PIP) --python .venv-$*/bin/python install --require-hashes --requirement $<
	@touch $@
