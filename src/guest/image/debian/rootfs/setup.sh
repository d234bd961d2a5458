#!/bin/sh
# anweddol_container_setup.sh USER PASSWORD PORT: gives this machine to USER.
# Prints nothing when all went well. A run that broke off can be repeated, until `endpoint` is locked.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 077
set -eu

fail() {
    echo "anweddol_container_setup.sh: $1" >&2
    exit "$2"
}

# One run waits for the other. The kernel lets go of the lock when the last process of a run is gone, however it went.
exec 9>> /run/anweddol-setup
flock 9 || fail 'no lock could be had' 3
# Gone as soon as the machine is somebody's. Who was on the way here as endpoint, stood still or waited, comes too late.
[ -e /etc/sudoers.d/endpoint ] || fail 'this machine is set up already' 2
[ $# -eq 3 ] || fail 'usage: anweddol_container_setup.sh USER PASSWORD PORT' 2
user=$1 password=$2 port=$3
case "$user" in
'' | [!a-z]* | *[!a-z0-9_]*) fail 'no such user name is allowed' 2 ;;
esac
[ "${#user}" -le 32 ] || fail 'the user name is longer than 32 characters' 2
# Debian's own accounts have numbers below 1000. One above is the user's, from a run that broke off.
number=$(id -u "$user" 2>/dev/null || echo 1000)
[ "$number" -ge 1000 ] && [ "$user" != nobody ] || fail 'no such user name is allowed' 2
case "$password" in
'' | *[!A-Za-z0-9]*) fail 'the password is not of letters and digits' 2 ;;
esac
[ "${#password}" -le 256 ] || fail 'the password is longer than 256 characters' 2
case "$port" in
'' | 0* | *[!0-9]* | ??????*) fail 'the port is no number from 1 to 65535' 2 ;;
esac
[ "$port" -le 65535 ] || fail 'the port is no number from 1 to 65535' 2

# Without a password nobody logs in yet.
id -u "$user" >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --groups sudo "$user" || fail 'useradd failed' 3

server=/etc/ssh/sshd_config.d/anweddol.conf
if ! grep -qx "Port $port" "$server"; then
    sed -i "s/^Port .*/Port $port/" "$server"
    # Only the listener reads it again: the session that runs this script is another process.
    read -r listener < /run/sshd.pid
    kill -HUP "$listener"
fi

# From here on endpoint may do nothing at all, nor may this script. Before anybody can log in: a run that breaks off below leaves
# a machine that is given to nobody, and none that a second user gets.
usermod --lock --expiredate 1 endpoint || fail 'endpoint could not be locked' 3
rm -f /etc/sudoers.d/endpoint

# Whoever else came in as endpoint while its password was the well-known one has to leave: all of its processes but our own line.
# By their real user too: a `sudo` that it started is root's.
ours=" "
process=$$
while [ "$process" -gt 1 ]; do
    ours="$ours$process "
    while read -r key value; do
        if [ "$key" = PPid: ]; then process=$value; break; fi
    done < "/proc/$process/status"
done
for process in $(ps -o pid= -u endpoint -U endpoint); do
    case "$ours" in *" $process "*) ;; *) kill -9 "$process" 2>/dev/null || true ;; esac
done

# From here on it is the user's. Few rounds: the password is random and long, nothing is gained by making each login slow.
printf '%s:%s\n' "$user" "$password" | chpasswd --crypt-method SHA512 --sha-rounds 1000 || fail 'chpasswd failed' 3
exit 0
