# What can be done here; `make help` explains it.
# MODE=embedded (libvirt inside the daemon, user networking) or MODE=system (qemu:///system, NAT, nftables).
MODE ?= embedded
# How many kills `make soak` makes, of daemons on a simulated world; or for how long; or of real ones, in each mode.
# ROUNDS=2000, SECONDS=600, REAL=100
ROUNDS ?= $(if $(SECONDS),,2000)

.DEFAULT_GOAL := help
.PHONY: help demo test packages nextest check fast doc-tests real soak fuzz bench deb deny clean

help:
	@echo 'anweddol: temporary, SSH-reachable virtual machines'
	@echo
	@echo '  make demo               a real machine from CREATE to SSH to DESTROY; a minute or two after the build'
	@echo '  make demo MODE=system   the same through qemu:///system, in a network namespace of its own'
	@echo '  make test               everything that has to hold before a change is good (needs root or sudo)'
	@echo '  make soak ROUNDS=n      only the crash suite, so many kills: what was lost, leaked, told twice, the time to ready'
	@echo '  make soak SECONDS=n     the same for so long'
	@echo '  make soak REAL=n        the same with real guests and SSH sessions, so many kills in each mode (needs root or sudo)'
	@echo '  make fuzz SECONDS=n     each target of the fuzzer for so long (60); TARGETS=... for some (needs a nightly Rust)'
	@echo '  make bench NAMES=...    whole paths measured beside what they cannot cost less than: stat, create, claim, burst,'
	@echo '                          converge, restart, idle, http; without NAMES all of them, a quarter of an hour'
	@echo '  make bench REAL=1       the same with real guests, in each mode (needs root or sudo)'
	@echo '  make check              the quick half of it: format, lints, documentation'
	@echo '  make deb                a Debian package in target/debian: the daemon as a service, its manual, completions'
	@echo '  make deny               licences, sources and known faults of dependencies (needs cargo-deny, cargo-audit and the network)'
	@echo '  make packages           the system packages all of these need; they install them by themselves'
	@echo '  make clean              removes what was built'

packages:
	@tests/lab/packages.sh

demo:
	@tests/demo.sh $(MODE)

check: packages
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items

test:
	@tests/all.sh

soak: packages
	@tests/soak.sh '$(ROUNDS)' '$(SECONDS)' '$(REAL)'

fuzz: packages
	@tests/fuzz/run.sh '$(or $(SECONDS),60)' $(TARGETS)

deb: packages
	cargo build --locked --release
	@examples/debian/build.sh release

bench: packages
ifdef REAL
	@# Builds the image outside of the lab, which has no network, into the cache that the benchmark takes it from.
	cargo nextest run --locked --profile lab --test image --run-ignored only -E 'test(a_guest_of_the_kernel)'
	tests/lab/run.sh --no-libvirtd cargo bench --locked --offline --bench system -- --libvirt guests
	tests/lab/run.sh cargo bench --locked --offline --bench system -- --libvirt guests
else
	cargo bench --locked --bench system -- $(NAMES)
endif

deny:
	@cargo deny --version >/dev/null 2>&1 || { echo "make deny: run 'cargo install --locked cargo-deny' first" >&2; exit 1; }
	@cargo audit --version >/dev/null 2>&1 || { echo "make deny: run 'cargo install --locked cargo-audit' first" >&2; exit 1; }
	cargo deny --locked check
	@# What is excepted, and why, is written once.
	cargo audit --deny warnings $$(sed -n 's/.*id = "\(RUSTSEC-[0-9-]*\)".*/--ignore \1/p' deny.toml)

clean:
	cargo clean
