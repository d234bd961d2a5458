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

# In labs at once, with what is to run in each: each is a host of its own, and its tests mostly wait. What they say is shown
# one after the other. Arguments are a stage's name, how many labs share each of the two filters, the filters for labs with
# libvirtd and for those without, and the command.
in_labs() {
  stage=$1
  local shares=$2 of_system=$3 of_embedded=$4
  shift 4
  local start=$SECONDS said share pid failed='' pids=() names=()
  said=$(mktemp -d)
  printf '\n== %s: in labs with libvirtd, and in those without: %s\n' "$stage" "$*"
  for share in $(seq "$shares"); do
    "${lab[@]}" "$@" --partition "slice:$share/$shares" -E "$of_system" >"$said/system.$share" 2>&1 &
    pids+=($!)
    names+=("system.$share")
    "${embedded[@]}" "$@" --partition "slice:$share/$shares" -E "$of_embedded" >"$said/embedded.$share" 2>&1 &
    pids+=($!)
    names+=("embedded.$share")
  done
  for pid in "${!pids[@]}"; do
    wait "${pids[$pid]}" || failed="$failed ${names[$pid]}"
    cat "$said/${names[$pid]}"
  done
  rm -r "$said"
  [ -z "$failed" ] || { stage="$stage (${failed# })"; return 1; }
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
run lints cargo clippy --locked --all-targets --features otlp -- -D warnings
run documentation documentation
if cargo deny --version >/dev/null 2>&1; then
  # What is known of their faults, as of the last 'make deny', which fetches it.
  known=()
  ! compgen -G "${CARGO_HOME:-$HOME/.cargo}/advisory-dbs/*/.git/FETCH_HEAD" >/dev/null || known=(advisories)
  run dependencies cargo deny --locked --offline check bans licenses sources "${known[@]}"
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
in_labs 'libvirt' 1 'test(/^system/)' 'test(/^embedded/)' "${real[@]}" --test libvirt
in_labs 'guests' 2 'all()' 'not test(/^libvirtd::/)' "${real[@]}" --profile lab --test guest
in_labs 'crashes, real' 1 'test(/^real/)' 'test(/^real/)' "${real[@]}" --profile crash --no-capture --test crash
in_labs 'library' 1 'all()' 'all()' "${real[@]}" --profile lab --test library
wait $tools || true
run 'package' package
run 'kubectl, helm and others' kubernetes
# Last, since it builds the program anew, with the feature.
run spans cargo nextest run --locked --features otlp --test daemon -E 'test(/^otlp::/)'
finished=yes
