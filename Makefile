# A thin front for people who type make; the build itself is meson's.
BUILD ?= build
PREFIX ?= /usr/local
PYTHON = /usr/bin/python3

.PHONY: all help bootstrap demo check quick bench lint tidy fuzz install clean

all: $(BUILD)/build.ninja
	ninja -C $(BUILD)

$(BUILD)/build.ninja:
	meson setup $(BUILD)

help:
	@echo 'make            build into $(BUILD)/'
	@echo 'make demo       start a bottle against local upstreams and show what it stops;'
	@echo '                BACKEND=docker: in containers (as root, with an engine of its own if none runs)'
	@echo '                BACKEND=qemu, BACKEND=smolmachines: in microVMs'
	@echo 'make check      every test; the last line is "N passed, N failed, N skipped"'
	@echo 'make quick      unit and wire tests of the plain build only'
	@echo 'make bench      figures as JSON lines, side by side with squid, mitmproxy, docker run, git push'
	@echo 'make lint       layout, banned functions, cppcheck, what the host CLI links'
	@echo 'make fuzz       every fuzz harness for FUZZ_SECONDS (60) each'
	@echo 'make bootstrap  install the Debian packages that all of this needs (as root)'
	@echo 'make install    to PREFIX (/usr/local), honours DESTDIR'
	@echo 'make clean      remove the build directories'

bootstrap:
	tools/bootstrap

demo:
	@tools/bootstrap build $(filter docker,$(BACKEND)) $(if $(filter qemu smolmachines,$(BACKEND)),vm)
	@$(PYTHON) tools/demo $(if $(BACKEND),--backend $(BACKEND))

check:
	@$(PYTHON) tools/check

quick: all
	meson test -C $(BUILD) --suite quick

bench:
	@tools/bootstrap build docker vm bench
	@$(PYTHON) tests/bench/run

lint: all
	@tools/bootstrap lint
	$(PYTHON) tools/lint --build $(BUILD)

tidy: all
	@tools/bootstrap tidy
	$(PYTHON) tools/lint --tidy --build $(BUILD)

fuzz:
	@tools/bootstrap build fuzz
	@$(PYTHON) tools/fuzz

install: all
	meson configure $(BUILD) -Dprefix=$(PREFIX)
	meson install -C $(BUILD)

clean:
	rm -rf build build-asan build-fuzz build-bench
