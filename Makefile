# TinyTags: `make demo` shows what it does, `make test` whether it works; both set up what they need.
SHELL := /bin/bash
BIN := .venv/bin
# Tests and benches start hundreds of processes: without compiled files each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-containers coverage lint serve bench bench-full campaign audit zip clean

help:
	@echo "make demo    set up, tag real images and open a page of results"
	@echo "make demo DEMO=--annotations   the same, with labels and relations of scenes made of these images"
	@echo "make test    set up and run all tests, on real Spark, Solr, HDFS and a browser, in three processes"
	@echo "make test FAST=1   only those that start no server, browser or JVM and are not slow: 45 seconds"
	@echo "make test TESTS=tests/storage   only some"
	@echo "make test-containers   build the images, bring up conf/compose.yaml and kill containers of it (minutes; root)"
	@echo "make coverage   run all tests and report which lines and branches they reach"
	@echo "make setup   only set up: .venv, Java, Maven, server jars"
	@echo "make serve   serve the search page of what is in the store (Solr is started)"
	@echo "make bench   measure every step against its alternatives (QUICK=1: in 3 to 6 minutes)"
	@echo "make bench-full   the whole scale once: 56 million documents, 5 million images, annotations of 9 million (40 GB of disk)"
	@echo "make lint    check style, types and the order of the folders"
	@echo "make campaign N=1   attack the whole chain and count what is lost (N times the tries: docs/reliability.md)"
	@echo "make audit   check the versions of Python packages and jars against known vulnerabilities"
	@echo "make zip     write dist/tinytags.zip, for spark-submit --py-files"
	@echo "make clean   stop the services; remove .venv and build products, not data"

setup:
	@scripts/setup

demo: setup
	@$(BIN)/tinytags demo $(DEMO)

# Three workers keep two cores busy, as some tests wait; fast ones don't. Each has servers of its own. tests/conftest.py
# says which files share a worker, and in which order they start.
PYTEST := -m pytest -n $(or $(WORKERS),$(if $(FAST),2,3)) --dist loadgroup --no-loadscope-reorder --durations=15 --durations-min=1 \
	$(if $(FAST),--fast) $(TESTS)

test:
	@scripts/setup test
	@$(BIN)/python $(PYTEST)

# With Docker, on an engine of its own where none runs; as root.
test-containers:
	@scripts/setup test
	@$(BIN)/python -m pytest -s tests/containers

coverage:
	@scripts/setup test
	@$(BIN)/coverage erase
	@$(BIN)/coverage run $(PYTEST); code=$$?; $(BIN)/coverage combine -q; $(BIN)/coverage report; exit $$code

lint:
	@scripts/setup test
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/mypy

serve: setup
	@scripts/services up solr
	@$(BIN)/tinytags serve

bench:
	@scripts/setup bench
	@$(BIN)/python -m bench $(if $(QUICK),--quick)

bench-full:
	@scripts/setup bench
	@$(BIN)/python -m bench.full $(FULL)

campaign:
	@scripts/setup test
	@$(BIN)/python -m campaign -n $(or $(N),1) $(ONLY:%=--only %) $(if $(WRITE),--write)

audit: setup
	@$(BIN)/python -m operations.audit

zip: setup
	@$(BIN)/python -c "from jobs.archive import write_zip; import pathlib; \
	p = pathlib.Path('dist/tinytags.zip'); p.parent.mkdir(exist_ok=True); write_zip(p); print(p)"

clean:
	@if [ -x $(BIN)/python ]; then scripts/services down solr hdfs yarn; fi
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
