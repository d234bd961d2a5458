#!/bin/bash
# Runs a command as root on a host of its own, made for the purpose: own mounts, own network, own processes.
#
#   tests/lab/run.sh COMMAND...                 with a libvirtd: qemu:///system is the lab's
#   tests/lab/run.sh --no-libvirtd COMMAND...   without one, for embedded mode
#
# The command finds ANWEDDOL_LAB=system or =embedded, loopback up and no other network. Its exit status is this
# script's. When it ends, every process of the lab ends with it, guests too: nothing on the real host changes and
# nothing stays. Files outside /run and libvirt's directories are the real ones, so that builds work as ever.
set -euo pipefail

die() { echo "lab: $*" >&2; exit 125; }

lab=system
[ "${1-}" = --no-libvirtd ] && { lab=embedded; shift; }

if [ "${ANWEDDOL_LAB_STAGE-}" != inside ]; then
  [ $# -gt 0 ] || die "usage: $0 [--no-libvirtd] COMMAND..."
  for tool in unshare tini ip nft conntrack libvirtd virsh qemu-system-x86_64 qemu-img dnsmasq; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$tool" >/dev/null || die "no $tool here: run $(dirname "$0")/packages.sh first"
  done
  up=()
  [ "$(id -u)" = 0 ] || up=(sudo --preserve-env)
  flags=()
  [ $lab = embedded ] && flags=(--no-libvirtd)
  # tini is process 1 inside: orphaned QEMUs are reaped at once (libvirt waits for that), and when it ends, the
  # kernel ends everything else.
  exec "${up[@]}" env "PATH=$PATH:/usr/sbin:/sbin" ANWEDDOL_LAB_STAGE=inside \
    unshare --mount --net --pid --fork --mount-proc --kill-child \
    tini -- bash "$0" "${flags[@]}" "$@"
fi

unset ANWEDDOL_LAB_STAGE
export ANWEDDOL_LAB=$lab LC_ALL=C

# /sys of the lab's network, and without control groups: those would be the real host's.
umount --lazy --recursive /sys
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755,dev lab /run
ip link set lo up

# libvirt's own places, empty, so that neither side sees the other's.
mkdir -p /run/lab/etc
cp -a /etc/libvirt/. /run/lab/etc
mount --bind /run/lab/etc /etc/libvirt
for dir in lib log cache; do
  mkdir -p "/run/lab/$dir"
  chmod 711 "/run/lab/$dir"
  mount --bind "/run/lab/$dir" "/var/$dir/libvirt"
done
mkdir -p /run/lab/lib/images && chmod 711 /run/lab/lib/images

# Where /dev/kvm is closed to libvirt-qemu, libvirt probes QEMU anew for every start of a guest. This is a device
# node of our own, with the mode that udev gives it.
if [ -e /dev/kvm ] && getent group kvm >/dev/null; then
  mknod -m 660 /run/lab/kvm c 10 232 && chgrp kvm /run/lab/kvm && mount --bind /run/lab/kvm /dev/kvm
fi

if [ $lab = system ]; then
  cat >>/etc/libvirt/qemu.conf <<'CONF'
stdio_handler = "file"
security_driver = "none"
dynamic_ownership = 0
CONF
  libvirtd --pid-file /run/lab/libvirtd.pid >/run/lab/libvirtd.log 2>&1 &
  for _ in $(seq 300); do
    virsh -c qemu:///system uri >/dev/null 2>&1 && break
    kill -0 $! 2>/dev/null || { cat /run/lab/libvirtd.log >&2; die "libvirtd ended"; }
    sleep 0.1
  done
  virsh -c qemu:///system uri >/dev/null || { cat /run/lab/libvirtd.log >&2; die "libvirtd does not answer"; }
fi

status=0
"$@" || status=$?
exit $status
