#!/bin/bash
# One real machine, from CREATE to an SSH session to DESTROY, and nothing left afterwards:
#
#   tests/demo.sh [embedded|system]      or: make demo [MODE=system]
#
# As root, or with a sudo that asks nothing, the daemon and its machine live in the lab (tests/lab/run.sh): a network
# and processes of their own, which end with the demo. For anybody else embedded mode runs as it is, as that user.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=${1:-embedded}
case $mode in embedded | system) ;; *) echo "demo: '$mode' is no mode: embedded or system" >&2; exit 2 ;; esac

target=${CARGO_TARGET_DIR:-target}
steps=10
number=${ANWEDDOL_DEMO_STEP:-0}
bold='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' plain=$'\e[0m'; fi

now() { date +%s.%N; }
since() { awk -v a="$1" -v b="$(now)" 'BEGIN { printf "%.1f s", b - a }'; }
say() { number=$((number + 1)); printf '\n%s[%d/%d] %s%s\n' "$bold" $number $steps "$1" "$plain"; }
# step WORDS COMMAND...: says what is done and how one would type it, does it, and says how long it took.
step() {
  say "$1"
  shift
  printf '$ %s\n' "${typed:-$*}"
  typed=
  local begin status=0
  begin=$(now)
  "$@" || status=$?
  printf '(%s)\n' "$(since "$begin")"
  return $status
}
typed=

# Programs of ours that have our directory in their command line.
ours() {
  local dir
  for dir in /proc/[0-9]*; do
    # Processes end while they are looked at.
    { tr '\0' ' ' <"$dir/cmdline"; } 2>/dev/null | grep -qE "^[^ ]*(qemu|anweddol|dnsmasq)[^ ]* .*$1" &&
      echo "${dir#/proc/}"
  done
  return 0
}

# ---------------------------------------------------------------------------------------- with the daemon
inside() {
  scratch=$1
  export PATH=$target/debug:$PATH XDG_DATA_HOME=$scratch/user ANWEDDOL_LOG=text
  unset ANWEDDOL_CONFIG RUST_LOG
  log=$scratch/daemon.log
  daemon=
  finished=

  end() {
    status=$?
    [ -n "$finished" ] || { echo; echo "demo: FAILED. The end of the daemon's log:"; grep -E '^[0-9-]+T|^error' "$log" | tail -n 25; } >&2
    if [ -n "$daemon" ] && kill "$daemon" 2>/dev/null; then wait "$daemon" || true; fi
    # Machines live longer than the daemon, on purpose; not longer than the demo.
    for pid in $(ours "$scratch"); do kill -9 "$pid" 2>/dev/null || true; done
    exit $status
  }
  trap end EXIT
  trap 'exit 130' INT TERM

  start_daemon() {
    anweddol serve --config "$scratch/config.yaml" 2>"$log" &
    daemon=$!
    for _ in $(seq 300); do
      # The line that tells the address is the one that says it serves.
      ANWEDDOL_SERVER=$(sed -n 's/.*serving; .* listen=\([^ ]*\) .*/\1/p' "$log" | sed 's/^0\.0\.0\.0/127.0.0.1/')
      [ -n "$ANWEDDOL_SERVER" ] && break
      kill -0 $daemon 2>/dev/null || { echo "the daemon ended"; return 1; }
      sleep 0.1
    done
    [ -n "$ANWEDDOL_SERVER" ] || { echo "the daemon does not serve"; return 1; }
    export ANWEDDOL_SERVER
    grep 'serving; ' "$log" | sed -E 's/.*serving; (server key fingerprint [0-9a-f]+).* hypervisor="([^"]*)".*/\1\n\2/'
  }
  typed="anweddol serve --config config.yaml &" step "Start the daemon on an empty store" start_daemon
  step "CREATE: ask for a machine and wait until it is ready" anweddol create
  step "Log in through the forwarded port" anweddol ssh -- 'uname -a; id'
  step "STAT: what the server tells anybody" anweddol stat

  give_back() {
    anweddol destroy
    # The answer says that the wish is durable; the machine's end is an event of its own.
    for _ in $(seq 300); do
      grep -q 'DESTROYED_CONTAINER' "$log" && return
      sleep 0.1
    done
    echo "the machine does not end"
    return 1
  }
  typed="anweddol destroy" step "DESTROY: give it back" give_back

  stop() {
    kill "$daemon"
    wait "$daemon"
    daemon=
    echo "what happened, as the daemon told it:"
    sed -nE 's/^[0-9-]+T([0-9:]+\.[0-9]{3})[0-9]*Z +(INFO|ERROR) anweddol::event: ([A-Z_]+)(:.*)? number=([0-9]+)( client=.* \([^)]*\))?( details=(.*))?$/\1 \5 \3 \8\4/p' "$log" |
      sed -E 's/([0-9a-f]{8})-[0-9a-f-]{27}/\1/g; s/"container_uuid"/"container"/; s/(wire-[0-9a-f]{8})[0-9a-f]+/\1/; s/[{}"]//g; s/,/, /g; s/:([^0-9 ]|[0-9a-f]{8}|[0-9]{4,5}$)/: \1/g' |
      awk '{ line = sprintf("  %s  %2d  %-22s", $1, $2, $3); for (i = 4; i <= NF; i++) line = line " " $i; sub(" +$", "", line); print line }'
  }
  typed="kill -TERM DAEMON" step "Stop the daemon" stop

  check() {
    local left
    left=$(ours "$scratch")
    [ -z "$left" ] || { echo "processes are left: $left"; return 1; }
    left=$(find "$scratch" /run/libvirt/qemu /run/lab/lib/qemu -name '*anweddol-*' ! -type d 2>/dev/null || true)
    [ -z "$left" ] || { echo "files are left: $left"; return 1; }
    left=$(find "$scratch/user/anweddol/containers" -type f 2>/dev/null || true)
    [ -z "$left" ] || { echo "logins are left: $left"; return 1; }
    if [ $mode = system ]; then
      left=$(virsh -q -c qemu:///system list --all --name | sed '/^$/d')
      [ -z "$left" ] || { echo "domains are left: $left"; return 1; }
      left=$(nft list table ip anweddol 2>/dev/null | grep -E 'elements = ' || true)
      [ -z "$left" ] || { echo "forwards are left: $left"; return 1; }
      echo "no daemon, no QEMU, no domain, no forward, no saved login"
    else
      echo "no daemon, no QEMU, no file of a machine, no saved login"
    fi
  }
  typed="(looking for processes, domains, forwards, files)" step "Nothing is left running" check
  finished=yes
}

if [ "${2-}" = --inside ]; then
  inside "$3"
  exit
fi

# ---------------------------------------------------------------------------------------- before the daemon
begin=$(now)
scratch=
end() {
  status=$?
  if [ -n "$scratch" ]; then
    # Root wrote into it where sudo made the lab.
    rm -rf "$scratch" 2>/dev/null || sudo -n rm -rf "$scratch"
  fi
  exit $status
}
trap end EXIT
trap 'exit 130' INT TERM

step "System packages" tests/lab/packages.sh
# The development profile: its RSA and store are optimised, so that it runs as fast here and builds sooner.
step "Build the program" cargo build --locked
# Below /tmp because QEMU runs as another user where the daemon is root, and because sockets need short paths.
scratch=$(mktemp -d /tmp/anw-demo.XXXXXX)
chmod 711 "$scratch"
# Packages and image are kept in the build directory: the second demo does not fetch them again.
typed="anweddol image build" \
  step "Make the image that machines boot" "$target/debug/anweddol" image build --state "$target/demo" --out "$scratch/images"

lab=()
PATH=$PATH:/usr/sbin:/sbin
up=()
[ "$(id -u)" = 0 ] || up=(sudo -n)
if "${up[@]}" unshare --mount --net --pid --fork --mount-proc true 2>/dev/null; then
  lab=(tests/lab/run.sh)
  [ "$mode" = system ] || lab+=(--no-libvirtd)
elif [ "$mode" = system ]; then
  echo "demo: system mode needs root or a sudo that asks nothing: 'make demo' without MODE runs as anybody" >&2
  exit 1
fi
{
  echo "state_dir: $scratch"
  echo "hypervisor: { mode: $mode }"
  if [ ${#lab[@]} -eq 0 ]; then
    # On the real host: whatever else runs there keeps its ports, and only this host reaches the machine.
    echo "server: { listen: '127.0.0.1:0', health_listen: null, api_listen: null }"
    echo "port_forwarding: { bind: 127.0.0.1 }"
  fi
} >"$scratch/config.yaml"
ANWEDDOL_DEMO_STEP=$number CARGO_TARGET_DIR=$target "${lab[@]}" "$BASH" tests/demo.sh "$mode" --inside "$scratch"

printf '\ndemo: good (%s in all, %s mode%s)\n' "$(since "$begin")" "$mode" \
  "$([ ${#lab[@]} -gt 0 ] && echo ', in a network namespace of its own')"
