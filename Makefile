# Each target does all of its own set-up first (tools/setup); it is quick when there is nothing to do.
SHELL := /bin/bash
# The tests start pytest a thousand times: what it made of the sources stays.
unexport PYTHONDONTWRITEBYTECODE
ARGS ?=
KERNEL ?= 6.1
BIN := .venv/bin
ONE_BY_ONE := -n% --numprocesses% --dist% -p --pdb --trace -s --capture=no --keep-lab% --dry-run --collect-only --co

.PHONY: help lab lab-vm test test-slow test-unit faults soak wheel-check bench clean setup
.DEFAULT_GOAL := help

help: ## say what there is
	@echo 'make lab            run the suites on this machine; ARGS="…" goes to pytest'
	@echo '                    as in: make lab ARGS="suites/mptcp -k mesh --link-rate 250mbit"'
	@echo 'make lab-vm         the same in micro-VMs with the kernel KERNEL (6.1); needs root'
	@echo 'make test           check style, types and the order of imports, then run the tests of the plugin itself'
	@echo 'make test-unit      only those that take no lab and no run of pytest: less than a minute'
	@echo 'make test-slow      those that take minutes each, among them hosts that channover did not make; as root'
	@echo 'make faults         do the faults of the matrix to labs, and write docs/faults.md of what was noticed: an hour'
	@echo 'make wheel-check    run the suites from the wheel, in fresh environments of Python 3.11 and 3.13'
	@echo 'make soak N=30      run the suites again and again, a third of the runs beside load; what came out is data'
	@echo 'make bench          compare speed with other tools; needs root'
	@echo 'make setup          only do the set-up that the others do first'
	@echo 'make clean          remove .venv and caches; reports stay'

setup:
	@tools/setup

# ARGS that name a suite run it alone; without, all of suites/ is run. LAGs come first: what a program switches takes all of
# the processors' share, and so they are not waited for by the others later on.
SUITES := suites/lacp $(filter-out suites/lacp suites/__pycache__,$(patsubst %/,%,$(wildcard suites/*/)))
define run_suites
before=$$(readlink reports/latest); status=0; \
$(BIN)/pytest $(if $(filter suites suites/%,$(ARGS)),,$(SUITES)) $(1) $(ARGS) || status=$$?; \
after=$$(readlink reports/latest); \
if [ "$$after" != "$$before" ]; then \
	for file in index.html report.html certificate.html results.json; do \
		if [ -e "reports/$$after/$$file" ]; then echo "$${file%%.*}: $$PWD/reports/$$after/$$file"; fi; \
	done; \
fi; \
exit $$status
endef

# Tests run side by side, as far as the processors allow, but where ARGS wants something that they cannot do so.
WORKERS := $(shell expr $$(nproc) + 2)
lab: setup
	@$(call run_suites,--target=netns $(if $(filter $(ONE_BY_ONE),$(ARGS)),,-n $(WORKERS) --dist load --maxschedchunk 1))

# A kernel by its path is not fetched.
lab-vm:
	@tools/setup --vm
	@case '$(KERNEL)' in 6.1|6.12) $(BIN)/channover kernel fetch '$(KERNEL)';; esac
	@$(call run_suites,--target=vm --kernel '$(KERNEL)')

# As root, micro-VMs are tested too; where no kernel can be fetched their tests are skipped with the reason.
# The tests come last, so that pytest's summary is the last word; whatever failed counts. Those that measure nothing come
# first, side by side: they wait for programs more than they compute. Labs have the machine to themselves. Their layers stand in the
# order of tests/conftest.py.
test:
	@tools/setup $(if $(filter 0,$(shell id -u)),--tests --vm)
	@if [ "$$(id -u)" = 0 ]; then $(BIN)/channover kernel fetch '$(KERNEL)' || true; fi
	@status=0; \
	for check in 'ruff check' 'ruff format --check' mypy 'lint-imports --no-logo --cache-dir .cache/imports'; do \
		echo "== $$check"; $(BIN)/$$check || status=1; \
	done; \
	run() { \
		echo "== pytest $$*"; $(BIN)/pytest "$$@" $(ARGS); code=$$?; \
		case $$code in 0) ran=yes;; 5) ;; *) ran=yes; status=$$code;; esac; \
	}; \
	ran=; run tests -m 'not alone' -n $(WORKERS); run tests -m alone; \
	[ -n "$$ran" ] || status=5; \
	exit $$status

# What takes minutes each: hosts that channover did not make, machines that panic, whole labs twice. As root.
test-slow:
	@tools/setup --tests --vm
	@$(BIN)/channover kernel fetch '$(KERNEL)' || true
	@$(BIN)/pytest tests --slow -m slow $(ARGS)

# Without root, labs and runs of pytest.
test-unit: setup
	@$(BIN)/pytest tests/unit $(ARGS)

# Goes on where it was stopped; ARGS goes to tests/faults/run.py, as in: make faults ARGS="-k rate".
faults: setup
	@$(BIN)/python -m tests.faults.run $(ARGS)

# Downloads what channover needs anew for each Python.
wheel-check: setup
	@tools/wheel-check $(ARGS)

# INTO, a folder, goes on where runs into it were stopped.
N ?= 3
soak: setup
	@$(BIN)/python tools/soak.py $(N) $(if $(INTO),--into $(INTO)) -- $(ARGS)

bench:
	@tools/setup --bench
	@$(BIN)/python benchmarks/run.py $(ARGS)

clean:
	rm -rf .venv .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
