#!/bin/bash
# Everything that has to hold, in the order in which it fails soonest. `make test` calls it.
#
# The real ones, on guests and libvirt, run in the lab, which needs root or sudo; the image is built outside of it,
# since the lab has no network.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin

begin=$SECONDS
told=()
stage=
finished=
end() {
  status=$?
  # The lab's cargo ran as root; what it built belongs to who called.
  [ "$(id -u)" = 0 ] || sudo -n chown -R "$(id -u):$(id -g)" "${CARGO_TARGET_DIR:-target}" 2>/dev/null || true
  echo
  printf '  %-34s %s\n' "${told[@]}"
  if [ -n "$finished" ]; then
    echo "make test: good, in $((SECONDS - begin)) s"
  else
    echo "make test: FAILED at '$stage', after $((SECONDS - begin)) s"
  fi
  exit $status
}
trap end EXIT
trap 'exit 130' INT TERM

run() {
  stage=$1
  shift
  local start=$SECONDS
  printf '\n== %s: %s\n' "$stage" "$*"
  "$@"
  told+=("$stage" "$((SECONDS - start)) s")
}

# In the two labs at once, with what is to run in each: each is a host of its own, and its tests mostly wait. What they say
# is shown one after the other.
in_both_labs() {
  stage=$1
  local of_system=$2 of_embedded=$3
  shift 3
  local start=$SECONDS said failed=
  said=$(mktemp)
  printf '\n== %s: in the lab with libvirtd, and in the one without: %s\n' "$stage" "$*"
  "${embedded[@]}" "$@" -E "$of_embedded" >"$said" 2>&1 &
  local other=$!
  "${lab[@]}" "$@" -E "$of_system" || failed=system
  wait $other || failed="$failed embedded"
  cat "$said"
  rm "$said"
  [ -z "$failed" ] || { stage="$stage ($failed)"; return 1; }
  told+=("$stage" "$((SECONDS - start)) s")
}

nextest() { cargo nextest --version >/dev/null 2>&1 || cargo install --locked cargo-nextest; }
documentation() { RUSTDOCFLAGS='-D warnings' cargo doc --locked --no-deps --document-private-items; }
kubernetes() {
  local tools which='all()'
  tools=$(tests/kube/tools.sh)
  eval "$tools"
  [ -n "$ANWEDDOL_KUBECTL_OLDER" ] || which='not test(/^older::/)'
  cargo nextest run --locked --run-ignored only --test kube -E "$which"
}
package() {
  tests/package/prepare.sh
  "${embedded[@]}" "${real[@]}" --profile lab --test package
}
lab=(tests/lab/run.sh)
embedded=(tests/lab/run.sh --no-libvirtd)
real=(cargo nextest run --locked --offline --run-ignored only)

run packages tests/lab/packages.sh
run nextest nextest
run format cargo fmt --check
run lints cargo clippy --locked --all-targets -- -D warnings
run documentation documentation
if cargo deny --version >/dev/null 2>&1; then
  run dependencies cargo deny --locked check bans licenses sources
fi
run tests cargo nextest run --locked
run crashes env "ANWEDDOL_CRASH_SECONDS=${ANWEDDOL_CRASH_SECONDS:-60}" \
  cargo nextest run --locked --profile crash --no-capture --test crash
run 'documentation examples' cargo test --locked --doc
run 'image, on QEMU' cargo nextest run --locked --profile lab --test image --run-ignored only
run 'disks that fail' "${embedded[@]}" "${real[@]}" --test store faults
# Their programs, and the Debian for the package, are fetched and built while the labs mostly wait.
{ tests/kube/tools.sh; tests/package/prepare.sh; } >/dev/null 2>&1 &
tools=$!
in_both_labs 'libvirt' 'test(/^system/)' 'test(/^embedded/)' "${real[@]}" --test libvirt
in_both_labs 'guests' 'all()' 'not test(/^libvirtd::/)' "${real[@]}" --profile lab --test guest
in_both_labs 'crashes, real' 'test(/^real/)' 'test(/^real/)' "${real[@]}" --profile crash --no-capture --test crash
in_both_labs 'library' 'all()' 'all()' "${real[@]}" --profile lab --test library
wait $tools || true
run 'package' package
run 'kubectl, helm and others' kubernetes
finished=yes
