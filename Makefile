# make setup | demo | test | fuzz | chaos | chaos-group | hostile | soak | rotation-soak | lint | bench | bench-long | lock | wheel |
# clean. Each target sets up what it needs; none needs root.
# With a container engine and Compose: make test-containers | bench-containers | images-emulated. With buildx: make images.
# For a release: make pin-images | release-check.
SHELL := /bin/sh
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v $$p; break; }; done)
BIN := .venv/bin
# The tests start thousands of programs, which would otherwise compile all their modules each time.
unexport PYTHONDONTWRITEBYTECODE
# Within the arguments of a function, a comma would separate them.
COMMA := ,
# A virtual environment contains the paths of the checkout and of its Python: if either has moved, it is created again.
GONE := $(shell test ! -d .venv || { $(BIN)/python -c '' && test "$$(cat .venv/checkout)" = "$$PWD"; } 2>/dev/null || \
	{ rm -rf .venv; echo gone; })
COMPILE := uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --no-annotate \
	--python-version 3.11 --upgrade
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps
SOURCES := pyproject.toml README.md LICENSE $(shell find build_hooks dane_messenger idlib messaging_maintenance \
	messaging_receiver messaging_sender -name '*.py' 2>/dev/null)
# With the editable install, changes take effect at once; with the normal one, when make runs.
PACKAGE := $(if $(wildcard .venv/editable.stamp),.venv/editable.stamp,.venv/installed.stamp)

.PHONY: setup demo packages test test-containers fuzz chaos chaos-group hostile soak rotation-soak lint bench \
	bench-long bench-containers lock wheel distributions images images-emulated pin-images release-check clean

# The programs of a device, and the demo's embedded broker.
setup: $(PACKAGE)

.venv/bin/python:
	@test -n "$(PYTHON)" && $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo 'Python 3.11 or newer is needed: set PYTHON to one, as in make $(or $(MAKECMDGOALS),setup) PYTHON=python3.13' >&2; \
		exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; \
		echo 'No virtual environment could be created: on Debian and Ubuntu, install python3-venv; if the path of the' \
		'checkout is not ASCII, set LC_ALL=C.UTF-8.' >&2; exit 1; }
	@echo "$$PWD" > .venv/checkout

.venv/%.stamp: requirements/%.txt | .venv/bin/python
	$(PIP) --require-hashes -r $<
	@touch $@

# What is published only as source is built with the locked tools, not with whatever pip would fetch for it.
.venv/build.stamp: requirements/build.txt requirements/manual.txt | .venv/bin/python
	$(PIP) --require-hashes --only-binary :all: -r requirements/build.txt
	$(PIP) --require-hashes --no-build-isolation -r requirements/manual.txt
	@touch $@

.venv/installed.stamp: $(SOURCES) .venv/demo.stamp .venv/build.stamp
	$(PIP) --no-build-isolation --force-reinstall .
	@touch $@

.venv/editable.stamp: pyproject.toml .venv/development.stamp .venv/build.stamp
	$(PIP) --no-build-isolation --force-reinstall --editable .
	@$(BIN)/python -c '' 2>/dev/null || { rm -rf .venv; \
		echo 'In this locale Python cannot read the path of the checkout: set LC_ALL=C.UTF-8.' >&2; exit 1; }
	@touch $@

# Builds a wheel in dist/.
wheel: .venv/build.stamp
	$(BIN)/python -m hatchling build --target wheel

# Builds what is published, in dist/: the source and the wheel. The times in them are those of the commit, so that they can
# be built again.
distributions: .venv/build.stamp
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m hatchling build

demo: $(PACKAGE)
	@$(BIN)/python -m lab.demo

# Uses three processes for each processor, because most tests wait for something; the tests of a file run in one process,
# because they share daemons. JOBS=0 runs all tests in one process.
JOBS ?= $(shell echo $$((3 * $$(getconf _NPROCESSORS_ONLN))))

# Installs what the tests need of Debian.
packages: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages

test: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages
	@# Compiles the tests once instead of once in each process.
	@$(BIN)/python -m pytest --collect-only --quiet --quiet > /dev/null || true
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder

test-containers: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages
	$(BIN)/python -m pytest --timeout 900 tests/containers

# SECONDS: how long to fuzz each target.
fuzz: .venv/editable.stamp
	@$(BIN)/python -m fuzz --seconds $(or $(SECONDS),60)

lint: .venv/editable.stamp
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy dane_messenger idlib messaging_maintenance messaging_receiver messaging_sender lab testbed tests \
		benchmarks build_hooks chaos fuzz hostile release
	@for program in applications/restart.py applications/*/src/*.py docs/examples/*.py; do \
		$(BIN)/python -m mypy "$$program" || exit 1; done

bench: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages
	@$(BIN)/python -m benchmarks

# SECONDS: how long to inject faults. SEED: repeats an earlier run; without it, a random seed is chosen and printed.
chaos: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages
	@$(BIN)/python -m chaos --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))
	@$(BIN)/python -m chaos.epochs --seconds $$(($(or $(SECONDS),600) / 2)) $(if $(SEED),--seed $(SEED))
	@$(BIN)/python -m chaos.group --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

# MESSAGES: how many messages to publish, three times each, while receivers and their database are killed. SEED: as above.
chaos-group: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages
	@$(BIN)/python -m chaos.group --messages $(or $(MESSAGES),100000) $(if $(SEED),--seed $(SEED))

# SECONDS: how long strangers attack. SEED: as above. Measures how well the receiver still serves known senders.
hostile: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages
	@$(BIN)/python -m hostile --seconds $(or $(SECONDS),600) $(if $(SEED),--seed $(SEED))

soak: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages
	@$(BIN)/python -m benchmarks.soak --minutes $(or $(MINUTES),10)
	@$(BIN)/python -m benchmarks.backlog --messages $(or $(MESSAGES),100000)

# MINUTES: how long to change keys under faults; 13 of them are a year. SEED: as above.
rotation-soak: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages
	@$(BIN)/python -m chaos.rotation --minutes $(or $(MINUTES),13) $(if $(SEED),--seed $(SEED))

# What `make bench` leaves out; takes about ten minutes.
bench-long: .venv/editable.stamp
	@$(BIN)/python -m testbed.install_packages
	@$(BIN)/python -m benchmarks.envelope
	@$(BIN)/python -m benchmarks.disk_writes
	@$(BIN)/python -m benchmarks.replay

bench-containers: .venv/editable.stamp
	@$(BIN)/python -m benchmarks.containers

# Needs uv. The pins of the reference libraries are overridden in pyproject.toml.
lock:
	$(COMPILE) pyproject.toml --group article --output-file requirements/runtime.txt
	$(COMPILE) pyproject.toml --group article --group demo --constraint requirements/runtime.txt \
		--output-file requirements/demo.txt
	$(COMPILE) pyproject.toml --group article --group demo --group development --extra postgresql --constraint requirements/demo.txt \
		--output-file requirements/development.txt
	$(COMPILE) pyproject.toml --extra postgresql --constraint requirements/development.txt \
		--output-file requirements/postgresql.txt
	$(COMPILE) --group build --constraint requirements/development.txt --output-file requirements/build.txt
	$(COMPILE) --group manual --constraint requirements/build.txt --output-file requirements/manual.txt
	$(COMPILE) --group publish --constraint requirements/development.txt --output-file requirements/publish.txt
	$(COMPILE) --group compile --constraint requirements/build.txt --output-file requirements/compile.txt

# Builds the four images for each of PLATFORMS, as IMAGE_PREFIX/maintenance:IMAGE_TAG and so on, the names in
# docker-compose.override.yml. With PUSH=yes they go to the registry in IMAGE_PREFIX, which must be logged in to; without
# it, each is an OCI archive in dist/images. Each has a list of its packages (SBOM) and a record of how it was built
# (provenance); a builder that cannot add them stops with an error, and builds with ATTESTATIONS= instead. BUILD_OPTIONS:
# more options of `docker buildx build`. All platforms but the builder's own need emulation; docs/images.md says more.
PLATFORMS ?= linux/amd64,linux/arm64,linux/arm/v7
IMAGE_PREFIX ?= registry.invalid/owner/repository
IMAGE_TAG ?= $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
PUSH ?=
ATTESTATIONS ?= --sbom=true --provenance=mode=max
BUILD_OPTIONS ?=
DOCKER ?= docker
IMAGES := maintenance messaging_sender messaging_receiver resolver

images: $(IMAGES:%=image-%)

image-%:
	@$(if $(PUSH),,mkdir -p dist/images)
	$(DOCKER) buildx build --platform $(PLATFORMS) --target $* --tag $(IMAGE_PREFIX)/$*:$(IMAGE_TAG) $(ATTESTATIONS) \
		--output $(if $(PUSH),type=registry,type=oci$(COMMA)dest=dist/images/$*.tar) $(BUILD_OPTIONS) .

# Pulls the images from the registry in IMAGE_PREFIX, runs the stack once for each of PLATFORMS and sends a message through
# it. Needs a container engine, and qemu-user-static and binfmt-support for the processors that this host does not have.
images-emulated: .venv/editable.stamp
	@for platform in $(subst $(COMMA), ,$(PLATFORMS)); do echo "$$platform"; \
		$(BIN)/python -m testbed.containers.pulled_stack $(IMAGE_PREFIX) $(IMAGE_TAG) $$platform || exit 1; done

# Needs a registry: Docker Hub, or the one at the address REGISTRY.
pin-images: | .venv/bin/python
	@$(BIN)/python -m release pin $(if $(REGISTRY),--registry $(REGISTRY))

# Checks what a release needs besides the tests: base images that are the same for everyone, and no placeholder. TAG: also
# that this tag is the one of the version.
release-check: | .venv/bin/python
	@$(BIN)/python -m release check $(if $(TAG),--tag $(TAG))

clean:
	rm -rf .venv dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .fuzz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
