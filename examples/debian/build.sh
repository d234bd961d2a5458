#!/bin/bash
# Makes the Debian package of a program that is built already, and prints where it is:
#   build.sh release|dev [OPTIONS OF CARGO DEB...]
# Its manual, completions and configuration are what this program says of itself.
set -euo pipefail
cd "$(dirname "$0")/../.."
profile=$1
shift
export PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
target=${CARGO_TARGET_DIR:-target}
program=$target/$profile/anweddol
[ "$profile" = dev ] && program=$target/debug/anweddol

cargo deb --version >/dev/null 2>&1 || cargo install --locked cargo-deb --version '^3' >&2

made=$target/package
rm -rf "$made"
mkdir -p "$made"
"$program" man "$made/man"
for shell in bash fish; do "$program" completion $shell >"$made/anweddol.$shell"; done
"$program" completion zsh >"$made/_anweddol"
# Whoever asks the daemon of the unit finds it, and a start before libvirtd's does not choose embedded mode for ever.
"$program" config init - |
  sed -e 's|^# state_dir: /var/lib/anweddol$|state_dir: /var/lib/anweddol|' -e 's|^  mode: auto$|  mode: system|' \
    >"$made/config.yaml"
"$program" config check "$made/config.yaml" 2>/dev/null
[ "$(grep -cxE 'state_dir: /var/lib/anweddol|  mode: system' "$made/config.yaml")" = 2 ] || {
  echo "deb: the default configuration has changed: its state_dir and mode are not where they are looked for" >&2
  exit 1
}
cargo deb --locked --no-build --profile "$profile" "$@"
