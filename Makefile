# rawproto. `make demo` shows it, `make test` proves it; both set up all they need.

VENV ?= .venv
PY := $(VENV)/bin/python
# Debian keeps ip, tcpdump and nft where only root's PATH looks.
export PATH := $(PATH):/usr/sbin:/sbin

# Run as a user would, whatever a container or a session has set.
unexport PYTHONHOME PYTHONPATH PYTHONUNBUFFERED PYTHONDONTWRITEBYTECODE

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup demo install uninstall test tools unit live check docs fuzz soak bench clean

help:  ## list the targets
	@awk -F ':.*##' '/^[a-z]+:.*##/ { printf "  make %-10s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# --- the virtual environment: what runs rawproto, what tests it, what fuzzes it ----------------

RUN := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
FUZZ := $(VENV)/.installed-fuzz
# One that was moved, or whose Python was upgraded away, is made anew.
ifneq ($(wildcard $(RUN)),)
$(shell .ci/setup intact $(VENV) || rm -f $(RUN) $(DEV) $(FUZZ))
endif

$(RUN): pyproject.toml
	@.ci/setup venv $(VENV) http
	@touch $@

$(DEV): pyproject.toml
	@.ci/setup venv $(VENV) dev
	@touch $@ $(RUN)

$(FUZZ): pyproject.toml $(DEV)
	@.ci/setup venv $(VENV) dev,fuzz
	@touch $@

setup: $(DEV)  ## make the virtual environment (.venv) with all that development needs
	@:

# --- what a user runs ----------------------------------------------------------------------------

demo: $(RUN)  ## two hosts on this machine, and packets between them
	@.ci/setup tools ip=iproute2 nft=nftables unshare=util-linux curl=curl
	@$(VENV)/bin/rawproto demo

PREFIX ?= /usr/local

install:  ## rawproto for all users below PREFIX=/usr/local, with completions and manual pages
	@.ci/setup install $(PREFIX)

uninstall:  ## remove what install put there
	@rm -rf $(PREFIX)/lib/rawproto $(PREFIX)/bin/rawproto $(PREFIX)/share/man/man1/rawproto*.1 \
		$(PREFIX)/share/bash-completion/completions/rawproto \
		$(PREFIX)/share/zsh/site-functions/_rawproto \
		$(PREFIX)/share/fish/vendor_completions.d/rawproto.fish

test: tools unit live  ## everything that there is to trust this checkout by: unit, property, live

PYTEST := $(PY) -m pytest
CORES := $(shell nproc)
# Of what waits a third of its time: live tests, smoke benches.
AT_ONCE := $(shell expr $(CORES) \* 3 / 2 '|' 1)

# First of all, so that nobody waits a minute to hear that a package is missing.
tools: $(DEV)
	@.ci/setup live true

unit: $(DEV)  ## the tests that need no network
	@$(PYTEST) -n $(CORES) -m "not live"

live: $(DEV)  ## the tests between real namespaces: as root, or in user namespaces
	@RAWPROTO_PYTHON=$(abspath $(PY)) .ci/setup live $(PYTEST) -m live --dist loadfile \
		--tx "$(AT_ONCE)*popen//python=$(CURDIR)/.ci/apart"

check: $(DEV)  ## formatting, lint, strict types, who imports whom
	@$(VENV)/bin/ruff format --check --quiet . || { echo "run: $(VENV)/bin/ruff format ." >&2; exit 1; }
	@$(VENV)/bin/ruff check --quiet .
	@$(VENV)/bin/mypy --no-error-summary
	@$(PYTEST) tests/test_architecture.py

docs: $(DEV)  ## do the links of the documents lead somewhere, and do their examples run?
	@$(PYTEST) tests/test_docs.py

fuzz: $(FUZZ)  ## the readers of hostile bytes against a fuzzer; SECONDS=10 each, TARGET=dns for one
	@for target in $(or $(TARGET),`$(PY) -m tests.fuzz.run`); do \
		$(PY) -m tests.fuzz.run $$target $(or $(SECONDS),10) || exit 1; \
	done

soak: $(DEV)  ## every simulated scenario, SEEDS=1000 of each; WRITE=1 puts the table into docs/
	@$(PY) -m tests.sim.soak --seeds $(or $(SEEDS),1000) --jobs $(CORES) $(if $(WRITE),--write)

bench: $(DEV)  ## rawproto beside its peers; QUICK=1 for a smoke test
	@.ci/setup tools ip=iproute2 ping=iputils-ping tcpdump=tcpdump traceroute=traceroute mtr=mtr-tiny nmap=nmap tcpreplay=tcpreplay iperf3=iperf3 socat=socat rsync=rsync ssh=openssh-client /usr/sbin/sshd=openssh-server
ifeq ($(QUICK),)
	@for bench in tests/bench/bench_*.py; do $(PY) $$bench || exit 1; done
else # nobody reads these figures
	@printf '%s\n' tests/bench/bench_*.py | QUICK=1 xargs -n 1 -P $(AT_ONCE) \
		sh -c 'told=$$($(PY) "$$0" 2>&1); code=$$?; printf "%s\n\n" "$$told"; exit $$code'
endif

clean:  ## remove what was built, the virtual environment too
	@rm -rf $(VENV) build dist *.egg-info .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage demo.pcapng
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
