#!/bin/bash
# Boots a Debian from an archive of its files: systemd as process 1, with processes, mounts, control groups and a name of
# its own, in the network of whoever calls. Replaces itself; when it is killed, everything of that Debian ends.
#   host.sh ARCHIVE
# To be called in the lab, whose /run is not the real host's.
set -euo pipefail
[ -n "${ANWEDDOL_LAB-}" ] || { echo "host: run this in tests/lab/run.sh" >&2; exit 125; }
export root=/run/host
mkdir -p "$root"
mount -t tmpfs -o mode=755 host "$root"
tar -C "$root" -xf "$1"

# A control group of its own, below which systemd makes what it wants.
groups=/run/cgroup
mkdir -p "$groups"
mountpoint -q "$groups" || mount -t cgroup2 cgroup2 "$groups"
for old in "$groups"/anweddol-lab-*; do
  [ -d "/proc/${old##*-}" ] || find "$old" -depth -type d -exec rmdir {} + 2>/dev/null || true
done
mkdir "$groups/anweddol-lab-$$"
echo $$ >"$groups/anweddol-lab-$$/cgroup.procs"

inside() {
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs -o mode=755 run "$root/run"
  mount -t tmpfs -o mode=755 dev "$root/dev"
  mkdir "$root"/dev/{net,pts,shm}
  local name major minor
  while read -r name major minor; do
    mknod -m 666 "$root/dev/$name" c "$major" "$minor"
  done <<<"null 1 3
zero 1 5
full 1 7
random 1 8
urandom 1 9
tty 5 0
net/tun 10 200"
  # As udev would have it, which does not run here.
  if [ -e /dev/kvm ]; then
    mknod -m 660 "$root/dev/kvm" c 10 232
    chgrp "$(awk -F: '$1 == "kvm" { print $3 }' "$root/etc/group")" "$root/dev/kvm"
  fi
  mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  hostname lab
  # Not chroot alone: libvirt enters the mounts of its guests, and is then where these begin.
  mkdir "$root/.old"
  cd "$root"
  pivot_root . .old
  exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    chroot . sh -c 'umount --lazy /.old && rmdir /.old && exec /lib/systemd/systemd --log-target=journal --show-status=0'
}
export -f inside
exec unshare --pid --fork --kill-child --cgroup --uts --ipc --mount --propagation private \
  bash -euo pipefail -c inside </dev/null
