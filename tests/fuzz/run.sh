#!/bin/bash
# Fuzzes targets, one after the other, each for so many seconds, and tells how many inputs were tried and how fast. `make fuzz`
# calls it: run.sh SECONDS [TARGET...]
#
# What is new goes to target/fuzz/corpus, and what breaks a property to target/fuzz/artifacts, from where a small one is put
# into corpus/: there every test run finds it again. This makes a corpus small that has grown:
#   target/fuzz/x86_64-unknown-linux-gnu/release/TARGET -merge=1 tests/fuzz/corpus/TARGET target/fuzz/corpus/TARGET
set -euo pipefail
cd "$(dirname "$0")/../.."
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
seconds=${1:-60}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's|^path = "bin/\(.*\)\.rs"$|\1|p' tests/fuzz/Cargo.toml)

cargo +nightly --version >/dev/null || { echo "make fuzz: run 'rustup toolchain install nightly' first" >&2; exit 1; }
cargo fuzz --version >/dev/null 2>&1 || cargo install --locked cargo-fuzz

# Without a sanitizer an input costs half. All of the product's own code is safe Rust but for calls of libvirt, which no target
# makes; ANWEDDOL_SANITIZER=address looks at the parser of YAML, which is not. The C of the cryptography is instrumented by
# neither. Dependencies are told nothing of being fuzzed (`cfg(fuzzing)`): some would skip what they do in the product.
sanitizer=${ANWEDDOL_SANITIZER:-none}
directory=target/fuzz
[ "$sanitizer" = none ] || directory=target/fuzz-$sanitizer
cargo +nightly fuzz build --fuzz-dir tests/fuzz --target-dir "$directory" \
  --sanitizer "$sanitizer" --codegen-units 16 --no-cfg-fuzzing

# Leaks are looked for at the end, when what is kept for the whole run is still there.
export ASAN_OPTIONS=detect_leaks=0
printf '%-10s %12s %8s %8s\n' target inputs '/s' MiB
for target in "${targets[@]}"; do
  corpus=target/fuzz/corpus/$target artifacts=target/fuzz/artifacts/$target log=target/fuzz/$target.log
  mkdir -p "$corpus" "$artifacts"
  "$directory/x86_64-unknown-linux-gnu/release/$target" -max_total_time="$seconds" -print_final_stats=1 \
    -timeout=10 -rss_limit_mb=1024 -max_len=16384 -dict=tests/fuzz/dictionary -artifact_prefix="$artifacts/" \
    "$corpus" "tests/fuzz/corpus/$target" >"$log" 2>&1 || { tail -n 40 "$log"; echo "make fuzz: $target FAILED: see $log" >&2; exit 1; }
  stat() { sed -n "s/^stat::$1: *//p" "$log"; }
  printf '%-10s %12s %8s %8s\n' "$target" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" "$(stat peak_rss_mb)"
done
