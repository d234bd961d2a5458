#!/bin/bash
# Makes what the suite `package` works with, outside of the lab, since that has no network; what is there already is taken.
# In target/tmp/package: the Debian package of the program that the tests run, the same with a higher version, and the files
# of a Debian that has what the package names and nothing else.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
out=$target/tmp/package
mkdir -p "$out"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

made_of=("$target/debug/anweddol" Cargo.toml README.md examples/debian examples/systemd)
if [ ! -e "$out/next.deb" ] || [ -n "$(find "${made_of[@]}" -newer "$out/next.deb" -print -quit)" ]; then
  examples/debian/build.sh dev --fast --quiet --deb-version 0.1.0-1 --output "$scratch/first.deb" >/dev/null
  dpkg-deb --raw-extract "$scratch/first.deb" "$scratch/next"
  sed -i 's/^Version: .*/Version: 0.1.0-2/' "$scratch/next/DEBIAN/control"
  dpkg-deb --root-owner-group -Znone --build "$scratch/next" "$scratch/next.deb" >/dev/null
  mv "$scratch/first.deb" "$out"
  mv "$scratch/next.deb" "$out"
fi

. /etc/os-release
components=main
[ "$ID" = ubuntu ] && components=main,universe
# Names alone: their versions are what this system has.
named=$(dpkg-deb -f "$out/first.deb" Depends Recommends | sed 's/^[A-Za-z]*: //; s/([^)]*)//g; s/ //g' | paste -sd,)
include=systemd-sysv,dbus,libvirt-clients,$named
key=$(sha256sum <<<"$VERSION_CODENAME $components $include" | cut -c1-16)
archive=$out/debian-$key.tar
if [ ! -e "$archive" ]; then
  up=()
  [ "$(id -u)" = 0 ] || up=(sudo)
  echo "package: fetching a Debian ($VERSION_CODENAME), once" >&2
  rm -f "$out"/debian-*.tar
  "${up[@]}" mmdebstrap --quiet --variant=minbase --components="$components" --include="$include" \
    --aptopt='APT::Install-Recommends "false"' "$VERSION_CODENAME" "$scratch/debian.tar"
  "${up[@]}" chown "$(id -u):$(id -g)" "$scratch/debian.tar"
  mv "$scratch/debian.tar" "$archive"
fi
ln -sfn "$(basename "$archive")" "$out/debian.tar"
