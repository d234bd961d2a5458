#!/bin/sh
# Run once, by the builder, in the new root file system: what packages cannot know about a machine of ours.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
set -eu

depmod "$1"
groupadd --gid 900 endpoint
useradd --uid 900 --gid 900 --no-user-group --create-home --shell /bin/sh endpoint
printf 'endpoint:endpoint\n' | chpasswd --crypt-method SHA512 --sha-rounds 1000
passwd --quiet --lock root

systemctl --quiet enable systemd-networkd.service systemd-resolved.service
# Nobody sits at a console, a machine lives for hours, and by default it reaches nothing: none of these does any good.
systemctl --quiet disable getty@.service remote-fs.target systemd-networkd-wait-online.service systemd-pstore.service
systemctl --quiet mask systemd-networkd-wait-online.service apt-daily.timer apt-daily-upgrade.timer \
    dpkg-db-backup.timer e2scrub_all.timer fstrim.timer sys-kernel-debug.mount sys-kernel-tracing.mount \
    dev-hugepages.mount systemd-binfmt.service proc-sys-fs-binfmt_misc.automount systemd-network-generator.service \
    systemd-update-utmp.service systemd-update-utmp-runlevel.service

# Two machines of one image must share no identity: what is missing is made at the first start.
rm -f /etc/ssh/ssh_host_* /var/lib/systemd/random-seed /var/lib/dbus/machine-id
: > /etc/machine-id
ln -s /etc/machine-id /var/lib/dbus/machine-id

# Of the build alone.
find /var/log -type f -delete
rm -rf /var/cache/apt/archives/*.deb /var/cache/ldconfig/aux-cache /var/cache/debconf/*-old /var/lib/dpkg/*-old
touch /etc/.updated /var/.updated
rm -f "$0"
