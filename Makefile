# `make` lists what can be done. Everything is installed into .venv, once, and runs from there.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m
INSTALL := $(RUN) pip install --quiet --disable-pip-version-check --no-deps

.PHONY: help setup demo serve test test-slow check bench lock pin-images sbom clean

help: ## list what can be done
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: $(VENV)/demo.installed ## fine-tune the bundled classifier through a service of its own; results in demo-out/
	@$(RUN) api.commands.demo

serve: $(VENV)/demo.installed ## run the web service with a worker on http://127.0.0.1:8000
	@$(RUN) api --with-worker

setup: $(VENV)/dev.installed ## install all that development needs

test: setup ## run the tests, as many at once as there are processors, up to four
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(RUN) pytest --numprocesses auto --maxprocesses 4

test-slow: setup ## run the tests that take minutes each
	@$(RUN) pytest -m slow

check: setup ## lint, formatting, types, import rules, Dockerfile
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/hadolint Dockerfile

bench: setup ## measure; what comes out belongs into docs/benchmarks.md
	@for script in benchmarks/*.py; do $(RUN) benchmarks.$$(basename "$$script" .py) || exit 1; done

lock: setup ## write requirements/: every package with its version and hashes
	@$(VENV)/bin/python scripts/lock.py

pin-images: setup ## write the digests of base images into Dockerfile and docker-compose.yml; needs Docker
	@$(VENV)/bin/python scripts/pin_images.py

sbom: setup ## write what both images consist of to sbom/, as CycloneDX
	@$(VENV)/bin/python scripts/write_sbom.py

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/%.installed: pyproject.toml requirements/%.txt requirements/torch.txt requirements/torchvision.txt requirements/cuda.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("FAAL needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@echo "Installing into $(VENV), once. Torch is large: this takes some minutes."
	@$(PYTHON) -m venv $(VENV)
	@$(INSTALL) --require-hashes --no-index -r requirements/torch.txt 2>$(VENV)/no-torch-here || true # a build for CPUs, if pip has one
	@$(INSTALL) --require-hashes -r requirements/torch.txt -r requirements/torchvision.txt -r requirements/$*.txt
	@$(RUN) pip check >$(VENV)/missing || $(INSTALL) --require-hashes -r requirements/cuda.txt # for torch's build with CUDA
	@$(INSTALL) --no-build-isolation -e .
	@$(RUN) pip check >/dev/null
	@touch $(VENV)/demo.installed $@
