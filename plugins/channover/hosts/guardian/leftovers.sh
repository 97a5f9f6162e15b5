# What an earlier test left in the kernel of a host that is used again: the sockets of programs that have ended, and what was
# learned of the lab's addresses. It is ended and forgotten here, between two tests.
#
#   leftovers NETWORK... -- NIC...   prints a line for each socket that stayed: its state, and both ends
#
# The run's own sockets are those whose own address is of the lab's networks and not of the host: between two tests the host has
# the owner's addresses alone. So the owner's sockets and the management connection are never among them.
#
# Sources: ss(8), -K (kernels with CONFIG_INET_DIAG_DESTROY); ip-neighbour(8), ip-tcp_metrics(8), conntrack(8);
# Documentation/networking/mptcp-sysctl.rst, blackhole_timeout.

set -u -f

PATIENCE=20 # tenths of a second that sockets may take to be gone

networks=() own=() which=()
while (($#)) && [[ $1 != -- ]]; do networks+=("$1"); shift; done
shift
mapfile -t lines < <(for one in "${networks[@]}"; do printf 'address show to %s\n' "$one"; done | ip -o -force -batch - 2>/dev/null)
for line in "${lines[@]}"; do
    words=($line)
    own+=("${words[3]%/*}")
done
for one in "${networks[@]}"; do which+=(or src "$one"); done
which=('(' "${which[@]:1}" ')')
for one in "${own[@]}"; do which+=(and not src "$one"); done

left() { # sets LEFT; 1: nothing is
    mapfile -t LEFT < <(ss -Htn state connected "${which[@]}" 2>/dev/null)
    ((${#LEFT[@]}))
}

dying() { # whether a socket stays that has still something to send: one in TIME-WAIT has not, and stays for a minute
    local line
    for line in "${LEFT[@]}"; do [[ $line == TIME-WAIT* ]] || return 0; done
    return 1
}

if left; then
    for ((waited = 0; waited < PATIENCE; waited++)); do
        ss -HtnK state connected "${which[@]}" >/dev/null 2>&1 # one that listens ends with its program, and stops ss there
        left && dying || break
        sleep 0.1
    done
fi

{
    for one; do printf 'neighbour flush dev %s\n' "$one"; done # those that somebody configured stay: ip-neighbour(8)
    for one in "${networks[@]}"; do printf 'tcp_metrics flush %s\n' "$one"; done
    printf 'route flush cache\n'
} | ip -force -batch - >/dev/null 2>&1
if ((${#own[@]} == 0)) && command -v conntrack >/dev/null; then # it tells networks apart, and no addresses in them
    for one in "${networks[@]}"; do conntrack -D -s "$one" >/dev/null 2>&1; done
fi
# Linux 6.12 and later remember for an hour that MPTCP did not get through; setting the time anew forgets it.
file=/proc/sys/net/mptcp/blackhole_timeout
{ read -r words <"$file" && printf '%s\n' "$words" >"$file"; } 2>/dev/null

for line in "${LEFT[@]}"; do
    words=($line)
    printf '%s %s → %s\n' "${words[0]}" "${words[3]}" "${words[4]}"
done
