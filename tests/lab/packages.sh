#!/bin/bash
# Installs the system packages that building, the demo and the tests need on Debian 12 or later. Does nothing where
# they are all there; asks nothing.
set -euo pipefail

packages=(
  # to build
  build-essential pkg-config libvirt-dev
  # to run guests
  qemu-system-x86 libvirt-daemon libvirt-daemon-system libvirt-clients dnsmasq-base nftables iproute2
  # to make the reference image
  xorriso isolinux syslinux-common cpio
  # to test
  tini util-linux openssh-client
)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

up=()
[ "$(id -u)" = 0 ] || up=(sudo)
install() {
  "${up[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}
echo "installing: ${missing[*]}"
# The lists may be there already, and fresh enough.
install >/dev/null 2>&1 || { "${up[@]}" apt-get update -qq && install; }
