#!/bin/sh
# anweddol_container_setup.sh USER PASSWORD PORT: gives this machine to USER.
# Prints nothing when all went well. `endpoint` is locked last, so that a run that broke off can be repeated. Its `sudo` lets one
# run wait for the other: `one_of_several_set_ups_at_once_gives_the_machine_away`.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 077
set -eu

fail() {
    echo "anweddol_container_setup.sh: $1" >&2
    exit "$2"
}

# Gone as soon as the machine is somebody's. Who was on the way here as endpoint, stood still or waited, comes too late.
[ -e /usr/local/bin/sudo ] || fail 'this machine is set up already' 2
[ $# -eq 3 ] || fail 'usage: anweddol_container_setup.sh USER PASSWORD PORT' 2
user=$1 password=$2 port=$3
case "$user" in
'' | [!a-z]* | *[!a-z0-9_]* | root | sshd | endpoint | nobody) fail 'no such user name is allowed' 2 ;;
esac
[ "${#user}" -le 32 ] || fail 'the user name is longer than 32 characters' 2
case "$password" in
'' | *[!A-Za-z0-9]*) fail 'the password is not of letters and digits' 2 ;;
esac
[ "${#password}" -le 256 ] || fail 'the password is longer than 256 characters' 2
case "$port" in
'' | 0* | *[!0-9]* | ??????*) fail 'the port is no number from 1 to 65535' 2 ;;
esac
[ "$port" -le 65535 ] || fail 'the port is no number from 1 to 65535' 2

# To start a program takes an emulated guest longer than all that the shell does by itself: few are started here.

# Few rounds: the password is random and long, nothing is gained by making each login slow.
IFS=- read -r a b c rest < /proc/sys/kernel/random/uuid
hash=$(mkpasswd -m sha512 -P 0 -S "rounds=1000\$$a$b$c" <<END
$password
END
) || fail 'mkpasswd failed' 3
case "$hash" in
'$6$rounds=1000$'*) ;;
*) fail 'mkpasswd gave no SHA-512 hash' 3 ;;
esac

# The lines of /etc/$1 but for those that begin with $2 or $3.
without() {
    while IFS= read -r line; do
        case "$line" in "$2"* | "$3"*) ;; *) printf '%s\n' "$line" ;; esac
    done < "/etc/$1"
}

# Each file is another one in one rename below, with the mode that `umask` leaves; `shadow` is the last one.
umask 022
{ without passwd "$user:" "$user:"; echo "$user:x:1000:1000::/home/$user:/bin/sh"; } > /etc/new/passwd
{ without group "$user:" sudo:; echo "$user:x:1000:"; echo "sudo:x:27:$user"; } > /etc/new/group
umask 077
{
    without shadow "$user:" endpoint:
    echo "$user:$hash:20000:0:99999:7:::"
    echo 'endpoint:!:20000:0:99999:7:::'
} > /etc/new/shadow
mkdir -p "/home/$user"
chown 1000:1000 "/home/$user"

read -r key value < /etc/ssh/sshd_config
if [ "$key $value" != "Port $port" ]; then
    sed -i "s/^Port .*/Port $port/" /etc/ssh/sshd_config
    # Only the listener: the session that runs this script is another process, and init starts the next listener.
    read -r listener < /run/sshd.pid
    rm -f /run/sshd.pid
    kill "$listener"
fi

# From here on endpoint may do nothing at all, nor may this script. Before anybody can log in: a run that breaks off below leaves
# a machine that is given to nobody, and none that a second user gets.
rm -f /usr/local/bin/sudo

# From here on it is the user's.
mv /etc/new/group /etc/new/passwd /etc/new/shadow /etc

# Whoever else came in as endpoint while its password was the well-known one has to leave: all of its processes but our own line.
# What runs as root, which is nearly all there is, is seen without reading anything (`read` takes a system call for each letter).
# If endpoint started it, it is its `sudo`, which leads to this script's first refusal, or the real one, which grants it nothing.
ours=" "
process=$PPID
until [ -O "/proc/$process" ]; do
    ours="$ours$process "
    while read -r key value; do
        if [ "$key" = PPid: ]; then process=$value; break; fi
    done < "/proc/$process/status"
done
for directory in /proc/[0-9]*; do
    process=${directory#/proc/}
    if [ -O "$directory" ]; then continue; fi
    case "$ours" in *" $process "*) continue ;; esac
    while read -r key value rest; do
        if [ "$key" = Uid: ]; then
            set -- $value
            if [ "$1" = 900 ]; then kill -9 "$process" 2>/dev/null || true; fi
            break
        fi
    done 2>/dev/null < "$directory/status" || true
done
exit 0
