#!/bin/sh
# Two or more shaped hosts with what every Linux has: ip, tc, ethtool, ping. The peer that benchmarks/run.py measures.
#
#   shell_lab.sh up|down panel|plain PAIRS CABLES PREFIX
#
# Hosts PREFIXl1 and PREFIXr1 are joined by CABLES cables, and so on up to PAIRS. "panel": each cable is shaped outside the
# hosts, in a namespace of its own, as channover does it. "plain": each host shapes what it sends, one veth pair a cable.
# Everything that can be batched is; hosts are set up and pinged side by side; nsenter spares the mount namespace that
# "ip netns exec" makes each time.
set -eu
action=$1 wire=$2 pairs=$3 cables=$4 prefix=$5
panel=${prefix}p
shape="root tbf rate 100mbit burst 16k latency 20ms overhead 24 linklayer ethernet"
off="tx off tso off gso off gro off"

hosts() {
    i=1
    while [ "$i" -le "$pairs" ]; do
        echo "${prefix}l$i ${prefix}r$i"
        i=$((i + 1))
    done
}

namespaces() {
    if [ "$wire" = panel ]; then echo "netns $1 $panel"; fi
    hosts | while read -r left right; do
        echo "netns $1 $left"
        echo "netns $1 $right"
    done
}

# each_cable FUNCTION: call it with left, right, device, number
each_cable() {
    n=0
    hosts | while read -r left right; do
        c=1
        while [ "$c" -le "$cables" ]; do
            "$1" "$left" "$right" "eth$c" "$n"
            n=$((n + 1)) c=$((c + 1))
        done
    done
}

panel_links() {
    echo "link add port$4a up type veth peer name $3 netns $1"
    echo "link add port$4b up type veth peer name $3 netns $2"
}

panel_wire() {
    for ends in "port$4a port$4b" "port$4b port$4a"; do
        # shellcheck disable=SC2086
        set -- $ends
        echo "qdisc add dev $1 ingress"
        echo "filter add dev $1 parent ffff: protocol all u32 match u32 0 0 action mirred egress redirect dev $2"
        echo "qdisc add dev $1 $shape"
    done
}

panel_offloads() {
    echo "ethtool -K port$4a $off >/dev/null; ethtool -K port$4b $off >/dev/null"
}

plain_links() {
    echo "link add name $3 netns $1 type veth peer name $3 netns $2"
}

# setup HOST SIDE FIRST: addresses, offloads and (plain) shapers of one host; FIRST is its first cable's number
setup() {
    c=1 number=$3
    addresses="link set lo up" shapers="" tools=""
    while [ "$c" -le "$cables" ]; do
        addresses="$addresses
address add 10.101.$number.$2/30 dev eth$c
link set eth$c up"
        shapers="$shapers
qdisc add dev eth$c $shape"
        tools="$tools ethtool -K eth$c $off >/dev/null;"
        c=$((c + 1)) number=$((number + 1))
    done
    if [ "$wire" = plain ]; then echo "$shapers" | tc -n "$1" -batch -; fi
    echo "$addresses" | ip -n "$1" -batch -
    nsenter "--net=/run/netns/$1" sh -c "$tools"
}

ping_from() {
    nsenter "--net=/run/netns/$1" ping -c 1 -W 2 -q "$2" >/dev/null
}

finish() {
    for pid in $jobs; do wait "$pid"; done
    jobs=""
}

case $action in
up)
    jobs=""
    namespaces add | ip -batch -
    if [ "$wire" = panel ]; then
        each_cable panel_links | ip -n "$panel" -batch -
        each_cable panel_wire | tc -n "$panel" -batch - &
        jobs="$jobs $!"
        each_cable panel_offloads | nsenter "--net=/run/netns/$panel" sh -e &
        jobs="$jobs $!"
    else
        each_cable plain_links | ip -batch -
    fi
    i=1
    while [ "$i" -le "$pairs" ]; do
        setup "${prefix}l$i" 1 $(((i - 1) * cables)) &
        jobs="$jobs $!"
        setup "${prefix}r$i" 2 $(((i - 1) * cables)) &
        jobs="$jobs $!"
        i=$((i + 1))
    done
    finish
    i=1
    while [ "$i" -le "$pairs" ]; do
        ping_from "${prefix}l$i" "10.101.$(((i - 1) * cables)).2" &
        jobs="$jobs $!"
        ping_from "${prefix}r$i" "10.101.$(((i - 1) * cables)).1" &
        jobs="$jobs $!"
        i=$((i + 1))
    done
    finish
    ;;
down)
    namespaces delete | ip -force -batch -
    ;;
esac
