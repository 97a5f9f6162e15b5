#!/bin/bash
# What runs on a host of the fault trials (tools/fault_trials.py), as root, past channover and SSH:
#
#   prepare NUMBER   give the host an owner's settings, none of them a default, and a user who may use sudo
#   snapshot         print what the host shows of itself, a line a thing
#   watch            say on the console when a run takes the host and when it is free again; keep a snapshot of that moment
#   fault KIND       do a fault, and say on the console when it was done
#
# What is said on the console is a line "trial: WHAT NUMBER UPTIME", seconds of uptime. It needs no network.

set -u
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C PATH
HERE=/root/trial
RUNS=/run/channover
SSHD=(/usr/sbin/sshd -f "$RUNS/sshd_config")
shopt -s nullglob

tell() { local up; read -r up _ </proc/uptime; printf '\ntrial: %s %s %s\n' "$1" "${2-0}" "$up" >/dev/ttyS0; }

is_taken() { local found=("$RUNS"/run-*); ((${#found[@]})); }

# --- the owner's settings ----------------------------------------------------------------------------------------------------

prepare() {
    local one
    set -e
    mount -o remount,size=12m /run # so that it can be filled without filling the memory
    ip link set eth2 up # and down again: a NIC that was never up has no queue, and cannot be like that again
    ip link set eth2 down
    ip link set eth1 up mtu 1400 txqueuelen 500
    ip address add "198.51.100.$1/24" dev eth1
    ip address add "198.51.100.10$1/24" dev eth1
    ip address add "203.0.113.$1/25" dev eth2
    ip route add 192.0.2.0/24 via 198.51.100.254 dev eth1 metric 50
    ip route add default via 198.51.100.253 dev eth1 table 77
    ip rule add from "198.51.100.$1" table 77 priority 500
    ip mptcp limits set subflows 3 add_addr_accepted 1
    ip mptcp endpoint add "198.51.100.$1" id 7 dev eth1 subflow
    for one in mptcp/add_addr_timeout=60 ipv4/conf/all/rp_filter=1 ipv4/conf/eth1/arp_ignore=1 ipv4/tcp_wmem='4096 20000 3000000'; do
        printf '%s' "${one#*=}" >"/proc/sys/net/${one%%=*}"
    done
    ethtool -K eth1 gro off
    tc qdisc replace dev eth1 root handle 1: pfifo limit 77
    nft -f - <<<'table inet owner { chain out { type filter hook output priority 5; tcp dport 9 drop; }; }'
    modprobe bonding # what a module brings is not a run's doing
    echo 'lab:x:1999:1999::/tmp:/bin/sh' >>/etc/passwd
    echo 'lab:x:1999:' >>/etc/group
    echo 'lab:*:19000:0:99999:7:::' >>/etc/shadow
    allow_sudo
    mkdir -p -m 711 /run/sudo # sudo makes it when it refuses
    mkdir -p -m 700 /run/sudo/ts
    install -m 644 "$RUNS/client.pub" /etc/ssh/trial_keys
    sed -i 's|^AuthorizedKeysFile .*|AuthorizedKeysFile /etc/ssh/trial_keys|' "$RUNS/sshd_config"
    kill -HUP "$(<"$RUNS/sshd.pid")"
    set +e
}

allow_sudo() { printf 'lab ALL=(root) NOPASSWD: ALL\n' >/etc/sudoers.d/trial; }

# --- what the host shows -----------------------------------------------------------------------------------------------------

snapshot() {
    bash "$HERE/guardian.sh" state eth1 eth2 | sed 's/^/state: /'
    ip -o link show | sed -E 's/^[0-9]+: ([^:@]+).*/device: \1/'
    ip -d -o link show | grep -E '^[0-9]+: eth' | sed -E 's/^[0-9]+: //; s/(NO-CARRIER,)|,LOWER_UP//g; s/ state [A-Z]+//; s/^/link: /'
    ip -o address show | grep -E ' eth' | grep -v ' fe80' | sed -E 's/^[0-9]+: (.*)\\.*/address: \1/'
    for name in eth1 eth2; do
        ethtool -k "$name" | sed "s/^/$name offload: /"
        tc qdisc show dev "$name" | sed -E 's/qdisc noqueue [^ ]+/qdisc noqueue/; s/(fq_codel|mq) [0-9a-f]+:/\1/; s/^/qdisc: /'
    done
    ip -6 route show table all | grep -vE 'fe80|ff00|linkdown|dev mgmt0' | sed 's/^/route6: /'
    ip -o address show dev mgmt0 scope global | sed -E 's/^[0-9]+: (.*)\\.*/address: \1/'
    ip -4 route show table all | sed -E 's/ (linkdown|dead)//g; s/^/route: /'
    { ip -4 rule show; ip -6 rule show; } | sed 's/^/rule: /'
    { ip mptcp endpoint show; ip mptcp limits show; } | sed 's/^/MPTCP: /'
    nft list ruleset | sed 's/^/nft: /'
    { cd /proc/sys/net && grep -sr . . ; } | sed -E 's/^\.([^:]+):/parameter: \1=/' | grep -vE 'nf_conntrack_count|/random|_key='
    ls -A "$RUNS" | grep -vxE 'settings|guest.sh|client.pub|host.key|sshd_config|sshd.pid' | sed 's/^/run: /'
    ls -dA /run/* /tmp/* /sys/fs/cgroup/channover-* | sed 's/^/file: /'
    programs
}

parent_of() { local text; { read -r text <"/proc/$1/stat"; } 2>/dev/null && set -- ${text##*) } && PARENT=$2 STATE=$1; }

programs() { # what runs, but for kernel threads, SSH's own, and this script's
    local own=" $$ " pid=$$ folder name words environment one token
    while parent_of "$pid" && ((PARENT > 1)); do pid=$PARENT own+="$pid "; done
    for folder in /proc/[0-9]*; do
        pid=${folder##*/}
        parent_of "$pid" || continue
        [[ $pid == 2 || $PARENT == 2 || $STATE == Z || $own == *" $pid "* || $PARENT == $$ ]] && continue
        { mapfile -d '' -t words <"$folder/cmdline" && mapfile -d '' -t environment <"$folder/environ"; } 2>/dev/null || continue
        token=
        for one in "${environment[@]}"; do [[ $one == CHANNOVER_RUN=* ]] && token=" with $one"; done
        words="${words[*]}"
        [[ ! $token && ($words == *sshd* || $words == *trial/guest.sh\ fault* || $words == *trial/guest.sh\ watch*) ]] || printf 'program: %.70s%s\n' "$words" "$token"
    done
}

# --- watching ----------------------------------------------------------------------------------------------------------------

watch() {
    local never number=0 taken=
    exec {never}<> <(:) # nothing is ever read here: a pause that starts no process
    tell watching
    while :; do
        if is_taken; then
            [[ $taken ]] || { taken=1; tell taken $((++number)); }
        elif [[ $taken ]]; then
            taken=
            tell free "$number"
            snapshot >"$HERE/free" 2>&1
            tell seen "$number"
        fi
        read -r -t 0.1 -u "$never"
    done
}

# --- faults ------------------------------------------------------------------------------------------------------------------

fault() {
    local folder name doomed=() start=$SECONDS
    case $1 in
        reboot)
            sleep 0.5 # until the connection that asked for it is closed
            tell fault
            reboot
            ;;
        sshd) # and its sessions; started again once the host is free, since nobody can log in to do that
            sleep 0.5
            for folder in /proc/[0-9]*; do
                { read -r name <"$folder/comm"; } 2>/dev/null && [[ $name == sshd ]] && doomed+=("${folder##*/}")
            done
            tell fault
            kill -KILL "${doomed[@]}"
            while is_taken && ((SECONDS - start < 90)); do sleep 0.1; done
            "${SSHD[@]}"
            ;;
        full)
            { cat /dev/zero >/run/ballast; } 2>/dev/null
            tell fault
            ;;
        room) rm -f /run/ballast ;;
        sudo)
            rm /etc/sudoers.d/trial
            tell fault
            ;;
        allow) allow_sudo ;;
    esac
}

"$@"
