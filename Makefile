# `make` lists what can be done. Everything is installed into .venv, once, and runs from there.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python -m

.PHONY: help setup demo serve test test-slow test-oldest check bench docs docs-links lock pin-images sbom clean

help: ## list what can be done
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

demo: ## fine-tune the bundled classifier through a service of its own; results in demo-out/
	@echo "The demo takes about 4 minutes on two processor cores, after an installation of some minutes into $(VENV), once."
	@echo "Disk: 1.4 GB; 5.4 GB (7 GB during the installation) with an NVIDIA GPU or without access to download.pytorch.org."
	@$(MAKE) --no-print-directory $(VENV)/demo.installed
	@$(RUN) api.commands.demo

serve: $(VENV)/demo.installed ## run the web service with a worker on http://127.0.0.1:8000
	@$(RUN) api --with-worker

setup: $(VENV)/dev.installed ## install all that development needs

test: setup ## run the tests, one more at once than there are processors, up to four
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(RUN) pytest --numprocesses auto --maxprocesses 4 --dist worksteal

test-slow: setup ## run the tests that take minutes each
	@$(RUN) pytest -m slow

test-oldest: setup ## run the library's tests with the oldest versions that pyproject.toml allows, in an environment of its own
	@$(RUN) scripts.try_oldest build/oldest

# Shapes in signatures are checked while these tests run: that takes half as long again, and one call of a function is enough.
SHAPED := faal_core.attacks,faal_core.classifier,faal_core.auditing.run,faal_core.auditing.evaluator,faal_core.auditing.reliability,faal_core.training
SHAPE_TESTS := attacks auditing/test_evaluator.py auditing/test_reliability.py training/methods training/test_step.py training/test_validation.py

check: setup ## lint, formatting, types, shapes of tensors, import rules, Dockerfile
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) mypy
	@OMP_NUM_THREADS=1 $(RUN) pytest --numprocesses auto --maxprocesses 4 --jaxtyping-packages=$(SHAPED),beartype.beartype \
	  --deselect tests/unit/faal_core/attacks/test_oracle.py $(SHAPE_TESTS:%=tests/unit/faal_core/%)
	$(VENV)/bin/lint-imports --no-logo
	$(VENV)/bin/hadolint Dockerfile

bench: setup ## measure; the results belong into benchmarks/results and docs/results
	@for script in benchmarks/*.py; do $(RUN) benchmarks.$$(basename "$$script" .py) || exit 1; done

docs: setup ## build the guide into build/guide; warnings and broken links are errors
	@$(RUN) sphinx -W --keep-going -q -d build/doctrees docs build/guide
	@echo "Open build/guide/index.html, or /guide/ of the service."

docs-links: setup ## check the guide's links to other sites; needs the Internet
	@$(RUN) sphinx -q -b linkcheck -d build/doctrees docs build/links

lock: setup ## write requirements/: every package with its version and hashes
	@$(VENV)/bin/python scripts/lock.py

pin-images: setup ## write the digests of base images into Dockerfile and docker-compose.yml; needs Docker
	@$(VENV)/bin/python scripts/pin_images.py

sbom: setup ## write what both images consist of to sbom/, as CycloneDX
	@$(VENV)/bin/python scripts/write_sbom.py

clean: ## remove .venv and what tools left behind
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/%.installed: pyproject.toml requirements/%.txt requirements/torch.txt requirements/torchvision.txt requirements/cuda.txt requirements/torch-cpu.sha256
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("FAAL needs Python 3.11 or newer: make PYTHON=python3.12 …")'
	@$(PYTHON) -m scripts.install $(VENV) $*
	@touch $(VENV)/demo.installed $@
