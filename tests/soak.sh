#!/bin/bash
# Only the crash suite, for as long as is asked. `make soak` calls it with ROUNDS, SECONDS and REAL; one that is empty sets
# no limit.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
rounds=$1 seconds=$2 real=$3
crash=(cargo nextest run --locked --profile crash --no-capture --test crash)
if [ -z "$real" ]; then
  ANWEDDOL_CRASH_KILLS=$rounds ANWEDDOL_CRASH_SECONDS=$seconds exec "${crash[@]}"
fi
# The image is built outside of the lab, which has no network.
cargo nextest run --locked --profile lab --test image --run-ignored only
export ANWEDDOL_CRASH_KILLS=$real
tests/lab/run.sh "${crash[@]}" --offline --run-ignored only real
tests/lab/run.sh --no-libvirtd "${crash[@]}" --offline --run-ignored only real
