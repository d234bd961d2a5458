#!/bin/bash
# Installs the system packages that building, the demo and the tests need on Debian 12 or later and Ubuntu. Does
# nothing where they are all there; asks nothing. `packages.sh --list` only says which they are, and why.
set -euo pipefail

packages="
build-essential         build   compiler and linker of the C parts, and make
pkg-config              build   finds libvirt's library
libvirt-dev             build   libvirt's headers
qemu-system-x86         run     the machines
libvirt-daemon          run     libvirt's QEMU driver, in this process or in libvirtd
libvirt-daemon-system   run     libvirtd's configuration and the account that QEMU runs as
libvirt-clients         run     virsh, to look at machines
dnsmasq-base            run     gives machines their addresses in system mode
nftables                run     forwards ports to machines in system mode
conntrack               run     counts and ends connections through those ports
qemu-utils              run     makes the overlays of machines with a disk, and the reference image's disk
iproute2                run     ip, sets up the bridge of system mode, and makes the lab's networks
openssh-client          run     anweddol ssh
xorriso                 image   writes the reference image's ISO
mmdebstrap              image   installs Debian into the image of that flavor
e2fsprogs               image   mke2fs, which makes its file system
uidmap                  image   newuidmap, with which somebody without privileges builds it
fakeroot                image   remembers for them whose the files are
python3-venv            test    the clients of Kubernetes that are written in Python, and pip, which fetches kubectl
tmux                    test    the terminal of anweddol top
dpkg-dev                package finds out which libraries' packages the program needs
mmdebstrap              test    makes the Debian that the package is installed on
tini                    test    process 1 of the lab
util-linux              test    unshare, which makes the lab
"
rows() { echo "$packages" | sed '/^$/d'; }

if [ "${1-}" = --list ]; then
  rows
  exit
fi

names() { rows | awk '{ print $1 }'; }
missing() {
  names | while read -r package; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || echo "$package"
  done
}

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "packages: this is neither Debian nor Ubuntu: install what corresponds to these by hand" >&2
  rows >&2
  exit 1
fi

as_root() {
  if [ "$(id -u)" = 0 ]; then
    "$@"
  elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo "$@"
  else
    echo "packages: this needs root, and sudo without a password is not to be had. Run this, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install --no-install-recommends $(missing | tr '\n' ' ')" >&2
    exit 1
  fi
}
install() {
  # Word splitting is meant: a name has no spaces.
  # shellcheck disable=SC2046
  as_root env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 $(missing)
}

[ -n "$(missing)" ] || exit 0
echo "installing: $(missing | tr '\n' ' ')"
# The package lists may be there already, and fresh enough. Where they are not, they are fetched.
if ! { apt-cache show qemu-system-x86 >/dev/null 2>&1 && install >/dev/null 2>&1; }; then
  as_root apt-get update -qq
  install
fi
# One that was here in a version from elsewhere may have had to make way for the others: it comes back in theirs.
[ -z "$(missing)" ] || install
[ -z "$(missing)" ] || { echo "packages: still missing: $(missing | tr '\n' ' ')" >&2; exit 1; }
