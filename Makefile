# make setup | demo | test | fuzz | chaos | hostile | soak | lint | bench | lock | clean. Each sets up what it needs; nothing needs
# root.
# With a container engine and Compose: make test-containers | bench-containers. For a release: make pin-images |
# release-check.
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
BIN := .venv/bin
# The Python that made the environment may have gone with an upgrade of the system: it is made anew then.
GONE := $(shell test ! -d .venv || $(BIN)/python -c '' 2>/dev/null || { rm -rf .venv; echo gone; })
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	--python-version 3.11 --upgrade pyproject.toml

.PHONY: setup demo test test-containers fuzz chaos hostile soak lint bench bench-containers lock pin-images \
	release-check clean

# What a device runs, and the demo's embedded broker.
setup: .venv/demo.stamp

.venv/bin/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'Python 3.11 or newer is needed: set PYTHON to one, as in make $(or $(MAKECMDGOALS),setup) PYTHON=python3.13' >&2; \
		exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo 'No virtual environment could be made: on Debian and Ubuntu, install python3-venv.' >&2; exit 1; }

# A path relative to the packages goes along when the checkout moves, and is ASCII whatever the checkout is called.
.venv/path.stamp: | .venv/bin/python
	@$(BIN)/python -c 'import os, pathlib, sysconfig; packages = sysconfig.get_path("purelib"); \
		pathlib.Path(packages, "idlib.pth").write_text(os.path.relpath(os.curdir, packages) + "\n", "ascii")'
	@touch $@

.venv/%.stamp: requirements/%.txt | .venv/bin/python .venv/path.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

demo: .venv/demo.stamp
	@$(BIN)/python -m lab.demo

# In as many processes as there are processors and one more, for most tests wait for something; the tests of a file stay
# together, because they share daemons. JOBS=0 runs all in one process.
JOBS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))

test: .venv/development.stamp
	@$(BIN)/python -m tests.integration.install_packages
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

test-containers: .venv/development.stamp
	$(BIN)/python -m pytest --timeout 900 tests/containers

# SECONDS for each target.
fuzz: .venv/development.stamp
	@$(BIN)/python -m fuzz --seconds $(or $(SECONDS),60)

lint: .venv/development.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	MYPYPATH=applications/messaging_receiver/src:applications/messaging_sender/src $(BIN)/mypy idlib lab tests benchmarks \
		chaos fuzz hostile release
	@for service in maintenance messaging_sender messaging_receiver; do \
		echo "mypy applications/$$service"; MYPYPATH=applications/$$service/src $(BIN)/mypy applications/$$service/src || exit 1; done

bench: .venv/development.stamp
	@$(BIN)/python -m tests.integration.install_packages
	@$(BIN)/python -m benchmarks

# SECONDS of faults from a SEED, a number; without one it is drawn and printed.
chaos: .venv/development.stamp
	@$(BIN)/python -m tests.integration.install_packages
	@$(BIN)/python -m chaos --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

# SECONDS of attack by strangers, SEED as above; what known senders still get out of the receiver is measured.
hostile: .venv/development.stamp
	@$(BIN)/python -m tests.integration.install_packages
	@$(BIN)/python -m hostile --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

soak: .venv/development.stamp
	@$(BIN)/python -m tests.integration.install_packages
	@$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),10)
	@$(BIN)/python -m benchmarks.backlog --messages $(or $(MESSAGES),100000)

bench-containers: .venv/development.stamp
	@$(BIN)/python -m benchmarks.containers

# Needs uv. The pins of the reference libraries are overridden in pyproject.toml.
lock:
	$(COMPILE) --output-file requirements/runtime.txt
	$(COMPILE) --extra demo --constraint requirements/runtime.txt --output-file requirements/demo.txt
	$(COMPILE) --extra demo --extra development --constraint requirements/demo.txt \
		--output-file requirements/development.txt

# Needs a registry: Docker Hub, or the one at the address REGISTRY.
pin-images: | .venv/bin/python
	@$(BIN)/python -m release pin $(if $(REGISTRY),--registry $(REGISTRY))

# What must hold of a release besides the tests: the same base images for everybody.
release-check: | .venv/bin/python
	@$(BIN)/python -m release check

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
