#!/bin/bash
# What stays on a lab's host while a run uses it, and brings the host back when the run ends, however it ends.
#
# One run at a time holds the lease of a host. Before its first change the host's state is saved here as lines of text, one a
# setting; a watcher, which needs nobody, puts the differences back when the run's beat stops. Subcommands:
#
#   take RUN TTL WHO NIC...  take the lease for TTL seconds a beat; prints "held FOLDER"
#   beat RUN                 each line of standard input renews the lease, and a line of output says so; after the input's end
#                            the lease lasts GRACE seconds more
#   run RUN PROGRAM...       run a program that ends with the run
#   heal RUN                 end the run's programs and put the host back, and keep the lease; prints as "end" does
#   end RUN                  put the host back and give the lease back; prints "changed: ..." and "left: ..." lines
#   restore [--force] [RUN]  put back what runs that died left; --force: live runs as well, and forget what cannot be put back,
#                            or cannot be read
#   show                     who holds the lease, as key=value lines; an empty line between runs
#   state NIC...             the state now, of these NICs and of what is stacked on them (VLANs, macvlans)
#   diff RUN                 "- line" was and is not, "+ line" is and was not
#   save RUN, watch RUN, finish RUN   what the others are made of
#
# Exit codes: 0 done; 1 something could not be put back or read, or the host refuses; 2 a wrong call; 3 the run does not hold
# the lease; 74 no room for the state; 75 somebody else holds the lease.
#
# CHANNOVER_ROOT (on a tmpfs, so that a reboot clears it) is the lock of take, goes with the last run, and has a folder a run:
#   who since ttl nics   as they were given; since is UTC
#   beat                 seconds of /proc/uptime of the last renewal, and the process that renewed; renamed to "ended" first thing
#                        when the run ends. Written in place, at a fixed width: needs no room on a full disk
#   saved lifetimes      the state before the run; what was left of addresses that run out
#   watcher              process number and start time of the watcher
# What a host is changed by (ttl, nics, saved, lifetimes, and left below) ends in a line with its sum. What is damaged, of another
# version or of another user is no reason to act: it is named, and nothing is changed for it.
# RUN.left is what stays of a run after which something could not be put back: "left" has the lines. The folder itself is the
# lock of finish.
#
# Sources: proc(5), cgroups(7), flock(2), cksum(1), ip-link(8), ip-address(8), ip-neighbour(8), ip-nexthop(8), ip-route(8),
# ip-rule(8), ip-mptcp(8), tc(8), ethtool(8), nft(8); Documentation/networking/ip-sysctl.rst.

set -u -f

ROOT=${CHANNOVER_ROOT:-/run/channover}
GRACE=5   # seconds that a lease lasts after the end of its beat's input
LOOKS=40  # how often watcher and beat look at each other in the time that a lease lasts without a beat
PASSES=4  # how often a restore is tried before what differs counts as left
ENDING=20 # seconds that a take waits for a restore that is under way
VIRTUAL='bond|bridge|tun|veth|vlan|dummy|macvlan|openvswitch'  # kinds of devices that may be deleted
AUTOMATIC='sit0|gre0|gretap0|erspan0|tunl0|ip6tnl0|ip6gre0|ip_vti0|ip6_vti0'  # devices that come with a module

say() { printf 'guardian: %s\n' "$*" >&2; }
die() { local code=$1; shift; say "$*"; exit "$code"; }
quiet() { "$@" 2>/dev/null; }

# --- time, processes ---------------------------------------------------------------------------------------------------------

now() { local up; read -r up _ </proc/uptime; NOW=$((10#${up/./})); } # hundredths of a second; no clock step moves them

stat_of() { # PID: sets STATE_OF, PARENT, START
    local text words
    { read -r text <"/proc/$1/stat"; } 2>/dev/null || return 1
    words=(${text##*) })
    STATE_OF=${words[0]} PARENT=${words[1]} START=${words[19]}
}

self() { # how bash is to start this script again
    if [[ -f ${BASH_SOURCE[0]-} ]]; then SELF=("${BASH_SOURCE[0]}")
    elif [[ ${BASH_EXECUTION_STRING-} ]]; then SELF=(-c "$BASH_EXECUTION_STRING" guardian)
    else die 2 "start it as a file, or with bash -c"; fi
}

# --- a run's folder ----------------------------------------------------------------------------------------------------------

is_run() { [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9-]{0,63}$ ]]; }
wants_run() { is_run "${1-}" || die 2 "a run is named by letters, digits and dashes: '${1-}' is not"; }
is_held() { [[ -e $ROOT/$1/beat ]]; }
word() { WORD=; { read -r WORD <"$ROOT/$1/$2"; } 2>/dev/null; [[ $WORD ]]; }

runs() { # sets RUNS, dead or alive, and LEFTS
    local folder name
    RUNS=() LEFTS=()
    set +f
    for folder in "$ROOT"/*/; do
        name=${folder%/} name=${name##*/}
        if is_run "$name"; then RUNS+=("$name"); elif is_run "${name%.left}"; then LEFTS+=("$name"); fi
    done
    set -f
}

put() { printf '%s\n' "$2" 2>/dev/null >"$1" && [[ $(<"$1") == "$2" ]]; } # FILE TEXT: written, and written whole

seal() { # FILE TEXT: put, with the sum of the text as its last line
    local sum
    sum=$(printf '%s\n' "$2" | cksum) && put "$1" "$2"$'\n'"sum $sum"
}

unseal() { # FILE: sets LINES to what was sealed; 1: it is not what was
    local end sum
    LINES=()
    [[ -f $1 && -O $1 && ! -L $1 ]] && { mapfile -t LINES <"$1"; } 2>/dev/null && ((${#LINES[@]} > 1)) || return 1
    end=${LINES[-1]}
    unset 'LINES[-1]'
    sum=$(printf '%s\n' "${LINES[@]}" | cksum) && [[ $end == "sum $sum" ]]
}

is_own() { # FOLDER: nobody else's, nor a link, nor open to others
    [[ -d $1 && -O $1 && ! -L $1 && $(quiet stat -c %a -- "$1") =~ ^[0-7]?[0-7]00$ ]]
}

is_whole() { # FOLDER: whether it can be read as the record of a run; else sets WHY
    local file
    WHY="$ROOT/$1 is another's, or open to others"
    is_own "$ROOT/$1" || return 1
    for file in ttl nics saved lifetimes; do
        WHY="$ROOT/$1/$file is damaged, or of another version"
        unseal "$ROOT/$1/$file" || return 1
    done
    WHY=
}

unreadable() { # FOLDER: says why its record is no reason to act, and what to do
    say "the record of run ${1%.left} cannot be read ($WHY): nothing was changed for it. See what differs from" \
        "$ROOT/$1/saved, then forget it with 'restore --force ${1%.left}'"
}

renew() { # RUN CENTISECONDS: the beat, in place
    printf '%012d.%02d %010d\n' $(($2 / 100)) $(($2 % 100)) $$ 2>/dev/null 1<>"$ROOT/$1/beat"
}

beat_of() { # RUN: sets BEAT and BEATER
    local line
    { read -r line <"$ROOT/$1/beat"; } 2>/dev/null || return 1
    [[ $line =~ ^([0-9]{12})\.([0-9]{2})\ ([0-9]{10})$ ]] || return 1
    BEAT=$((10#${BASH_REMATCH[1]}${BASH_REMATCH[2]})) BEATER=$((10#${BASH_REMATCH[3]}))
}

is_fresh() { # RUN: whether its beat is; sets LEFT_OVER (hundredths of a second). 2: sets WHY, its beat cannot be read
    LEFT_OVER=0 WHY="$ROOT/$1/beat is damaged"
    [[ -e $ROOT/$1/beat || -L $ROOT/$1/beat ]] || return 1
    beat_of "$1" && word "$1" ttl && [[ $WORD =~ ^[1-9][0-9]{0,4}$ ]] || return 2
    now
    LEFT_OVER=$((BEAT + WORD * 100 - NOW))
    ((LEFT_OVER > 0))
}

looks_every() { # RUN: sets EVERY, the half seconds between two looks at the files of a lease: a long one is looked at less often
    word "$1" ttl && [[ $WORD =~ ^[1-9][0-9]{0,4}$ ]] || WORD=1
    EVERY=$((WORD * 2 / LOOKS))
    ((EVERY > 10)) && EVERY=10 || ((EVERY > 0)) || EVERY=1
}

is_restoring() {
    local fd held=1
    { exec {fd}<"$ROOT/$1"; } 2>/dev/null || return 1
    flock -s -n "$fd" || held=0
    exec {fd}<&-
    return $held
}

is_unreadable() { # RUN that is not alive: its record is no reason to act; sets WHY
    ! is_whole "$1" && return
    is_fresh "$1"
    (($? == 2))
}

is_alive() { is_fresh "$1" || is_restoring "$1"; }

is_watched() { # RUN: its watcher runs, and is the process that it was
    word "$1" watcher || return 1
    local words=($WORD)
    [[ ${#words[@]} == 2 ]] && ((10#${words[0]} > 0)) || return 1
    stat_of $((10#${words[0]})) && [[ $STATE_OF != Z && $START == $((10#${words[1]})) ]] || return 1
    WATCHER=$((10#${words[0]}))
}

# --- the state, a line a setting ---------------------------------------------------------------------------------------------

declare -A TEST KIND MASTER MAC MTU GENERATION LIFETIME LOWER OWNED
PORT='priority|cost|hairpin|guard|root_block|fastleave|learning|flood|proxy_arp|proxy_arp_wifi|mcast_router|mcast_fast_leave'
PORT+='|mcast_flood|bcast_flood|mcast_to_unicast|neigh_suppress|neigh_vlan_suppress|group_fwd_mask|vlan_tunnel|isolated|locked'
PORT+='|mab|queue_id|prio'  # what is set of a bridge's port, or of a bond's

drop() { # WORD... -- TEXT...: the text without these words; sets WORD
    local -A out=()
    while [[ $1 != -- ]]; do out[$1]=1; shift; done
    shift
    local kept=() one
    for one; do [[ ${out[$one]-} ]] || kept+=("$one"); done
    WORD="${kept[*]}"
}

asked() { # OPTION... -- QUESTION...: sets LINES to the answers of one ip(8); a program costs more than all else here
    local options=()
    while [[ $1 != -- ]]; do options+=("$1"); shift; done
    shift
    mapfile -t LINES < <(quiet ip "${options[@]}" -force -batch <(printf '%s\n' "$@"))
}

links() { # LINE...
    local line words name flags mtu master mac qlen port index part
    KIND=() MASTER=() MAC=() MTU=() GENERATION=() LOWER=()
    for line; do
        [[ $line =~ ^[0-9]+:\ [^\ ]+\ \< ]] || continue
        words=(${line//\\/ })
        name=${words[1]%:} name=${name%%@*} flags=,${words[2]//[<>]/},
        mtu='' master='' mac='' qlen='' port=
        for ((index = 3; index < ${#words[@]}; index++)); do
            case ${words[index]} in
                mtu) mtu=${words[++index]} ;;
                master) [[ $master ]] || master=${words[++index]} ;;
                qlen) [[ $qlen ]] || qlen=${words[++index]} ;;
                link/none) ;;
                link/*) [[ $mac ]] || mac=${words[++index]} ;;
                addrgenmode) GENERATION[$name]=${words[++index]} ;;
                bridge_slave | bond_slave) port=${words[index]} ;;
                *) [[ $port && ${words[index]} =~ ^($PORT)$ ]] && port+=" ${words[index]} ${words[++index]}" ;;
            esac
        done
        KIND[$name]='' MASTER[$name]=$master MAC[$name]=$mac MTU[$name]=$mtu
        line=${line#*\\} # the first line has no kind, nor has that of the address
        while [[ $line == *\\* ]]; do
            line=${line#*\\} part=(${line%%\\*})
            case ${part[0]-} in
                '' | altname | alias | vf | *_slave | link-netns*) ;;
                *) KIND[$name]=${part[0]}; break ;;
            esac
        done
        [[ ${words[1]} == *@* && ${KIND[$name]} != veth ]] && part=${words[1]%:} && LOWER[$name]=${part#*@}
        if [[ ${TEST[$name]-} ]]; then
            part="up=no mtu=$mtu master=$master mac=$mac qlen=$qlen promisc=off arp=on addrgenmode=${GENERATION[$name]-}"
            [[ $flags == *,UP,* ]] && part=${part/up=no/up=yes}
            [[ $flags == *,PROMISC,* ]] && part=${part/promisc=off/promisc=on}
            [[ $flags == *,NOARP,* ]] && part=${part/arp=on/arp=off}
            STATE+=("link $name $part")
            [[ $port == *' '* ]] && STATE+=("port $name $port")
        elif [[ ! $name =~ ^($AUTOMATIC)$ ]]; then
            STATE+=("device $name")
        fi
    done
}

stacked() { # NIC...: sets NICS to these and to all that is stacked on them, which goes down with them and follows their MTU
    local name grown=1
    local -A found=()
    STATE=() TEST=() NICS=("$@")
    for name; do found[$name]=1; done
    asked -o -d -- 'link show'
    links "${LINES[@]}"
    while ((grown)); do
        grown=0
        for name in "${!LOWER[@]}"; do
            [[ ! ${found[$name]-} && ${found[${LOWER[$name]}]-} ]] && NICS+=("$name") found[$name]=1 grown=1
        done
    done
}

is_from_mac() { # fe80::... MAC: whether the address is the one that RFC 4291, appendix A, makes of the MAC address
    local m=(${2//:/ }) text
    ((${#m[@]} == 6)) || return 1
    printf -v text 'fe80::%x:%x:%x:%x' $(((0x${m[0]} ^ 2) << 8 | 0x${m[1]})) $((0x${m[2]} << 8 | 0xff)) \
        $((0xfe00 | 0x${m[3]})) $((0x${m[4]} << 8 | 0x${m[5]}))
    [[ $1 == "$text/64" ]]
}

addresses() { # LINE...
    local line words all family address label index life nic
    for line; do
        [[ $line =~ ^[0-9]+:\ ([^\ ]+)\ +inet6?\  && ${TEST[${BASH_REMATCH[1]}]-} ]] || continue
        nic=${BASH_REMATCH[1]} words=(${line%%\\*}) life=(${line#*\\})
        all=" ${words[*]:4} " family=${words[2]} address=${words[3]} label=
        if [[ $family == inet6 ]]; then
            # Made by the kernel or told by a router: they come by themselves.
            [[ $all == *' temporary '* || $all == *' dynamic '*' mngtmpaddr '* || $all == *' mngtmpaddr '*' dynamic '* ]] && continue
            if [[ $address == fe80:* && $all == *' scope link '* ]]; then
                [[ $all == *' proto kernel_ll '* ]] && continue
                is_from_mac "$address" "${MAC[$nic]-}" && continue
                [[ ${GENERATION[$nic]-eui64} != eui64 && ${GENERATION[$nic]-} != none ]] && continue
            fi
        elif [[ $family == inet ]]; then
            label=${words[-1]} words=("${words[@]:0:${#words[@]}-1}")
        else
            continue
        fi
        for ((index = 4; index < ${#words[@]}; index++)); do
            [[ ${words[index]} == proto ]] && words[index]=tentative words[index + 1]=tentative
        done
        drop tentative deprecated dadfailed dynamic optimistic permanent -- "${words[@]:4}"
        [[ $label && $label != "$nic" ]] && WORD+=" label $label"
        STATE+=("address $nic $family $address${WORD:+ $WORD}")
        OWNED[${address%/*}]=1
        if [[ ${life[1]-} == *sec ]]; then
            LIFETIME["$nic $family $address"]="${life[1]%sec} ${life[3]%sec}"
        fi
    done
}

routes() { # FAMILY LINE...: routes and rules
    local family=$1 suffix='' line words index ours kept object life
    shift
    [[ $family == 6 ]] && suffix=6
    for line; do
        words=(${line//\\/ })
        if [[ $line =~ ^[0-9]+:$'\t' ]]; then
            drop '[detached]' '[unresolved]' -- "${words[@]}"
            STATE+=("rule$suffix $WORD")
            continue
        fi
        line=" ${words[*]} "
        [[ $line == *' proto kernel '* || $family == 6 && $line == *' proto ra '* ]] && continue
        ours='' kept=() object='' life=
        for ((index = 0; index < ${#words[@]}; index++)); do
            case ${words[index]} in
                dev)
                    [[ ${TEST[${words[index + 1]-}]-} ]] && ours=1
                    [[ $object ]] || kept+=(dev "${words[index + 1]-}")
                    ((index++))
                    ;;
                nhid) # what follows is the object's, and set by ip-nexthop(8)
                    object=1
                    kept+=(nhid "${words[++index]}")
                    [[ $line == *' nexthop '* ]] && continue
                    while ((index + 1 < ${#words[@]})) && [[ ${words[index + 1]} != dev ]]; do ((index++)); done
                    ;;
                nexthop)
                    [[ $object ]] || { kept+=(nexthop); continue; }
                    for ((; index < ${#words[@]}; index++)); do
                        [[ ${words[index]} == dev && ${TEST[${words[index + 1]-}]-} ]] && ours=1
                    done
                    ;;
                scope) [[ $object ]] || kept+=(scope "${words[index + 1]-}"); ((index++)) ;;
                src) # a route of any device goes with the address that it gives its packets
                    [[ ${OWNED[${words[index + 1]-}]-} ]] && ours=1
                    kept+=(src "${words[++index]}")
                    ;;
                expires) life=${words[++index]%sec} ;;
                linkdown | dead | offload | rt_offload | trap | rt_trap | offload_failed | unresolved | notify) ;;
                *) kept+=("${words[index]}") ;;
            esac
        done
        [[ $ours ]] || continue
        STATE+=("route$suffix ${kept[*]}")
        [[ $life ]] && LIFETIME["expiry route$suffix ${kept[0]}"]="$life forever"
    done
}

neighbours() { # LINE...: those that somebody configured; the kernel's own have addresses of groups
    local line words nic kept mac kind index
    for line; do
        [[ $line == *' PERMANENT'* || $line == *' NOARP'* || $line == *' managed'* || $line == *' proxy'* ]] || continue
        words=($line) nic=${words[2]-} kept=() mac='' kind=
        [[ ${words[1]-} == dev && ${TEST[$nic]-} ]] || continue
        for ((index = 3; index < ${#words[@]}; index++)); do
            case ${words[index]} in
                lladdr) mac=${words[++index]} ;;
                router | extern_learn) kept+=("${words[index]}") ;;
                proto) kept+=(protocol "${words[++index]}") ;;
                proxy) kind=proxy ;;
                managed) kind=managed ;;
                PERMANENT) kind=${kind:-permanent} ;;
                NOARP) kind=${kind:-noarp} ;;
            esac
        done
        case $kind in
            proxy) STATE+=("proxy $nic ${words[0]}${kept[*]:+ ${kept[*]}}") ;;
            managed) STATE+=("neighbour $nic ${words[0]} managed${kept[*]:+ ${kept[*]}}") ;;
            noarp | permanent)
                [[ $kind == noarp && ($mac == "${MAC[$nic]-}" || $mac =~ ^.[13579bdf]: || ! ${mac//[0:]/}) ]] && continue
                STATE+=("neighbour $nic ${words[0]}${mac:+ lladdr $mac} nud $kind${kept[*]:+ ${kept[*]}}")
                ;;
        esac
    done
}

nexthops() { # LINE...: objects that lead to the NICs, and groups of these (ip-nexthop(8))
    local line words index ids=' ' id
    for line; do
        words=(${line#* dev })
        [[ $line == 'id '*' dev '* && ${TEST[${words[0]}]-} ]] && words=($line) && ids+="${words[1]} "
    done
    for line; do
        [[ $line == 'id '* ]] || continue
        words=($line) id=${words[1]}
        if [[ ${words[2]-} == group ]]; then
            for id in ${words[3]//\// }; do [[ $ids == *" ${id%%,*} "* ]] && break; done
        fi
        [[ $ids == *" ${id%%,*} "* ]] || continue
        for ((index = 0; index < ${#words[@]}; index++)); do # told, and not set
            [[ ${words[index]} == scope || ${words[index]} == unbalanced_time ]] && words[index]=dead words[index + 1]=dead
        done
        drop linkdown dead offload trap -- "${words[@]}"
        STATE+=("nexthop $WORD")
    done
}

multipath() { # LINE...
    local line words
    for line; do
        [[ $line =~ ^[0-9]+:\  ]] && continue # a link, or an address of one
        words=($line)
        [[ " ${words[*]} " == *' implicit '* ]] && continue # the kernel's own note of an address in use
        case ${words[0]-} in
            '') ;;
            add_addr_accepted | subflows) STATE+=("limits ${words[*]}") ;;
            *) STATE+=("endpoint ${words[*]}") ;;
        esac
    done
}

sysctls() { # NIC...
    local files file name device words
    files=(net/ipv4/ip_forward net/ipv4/conf/all/accept_redirects)
    for device in all default "$@"; do
        for name in rp_filter forwarding accept_local arp_ignore arp_announce arp_filter; do
            files+=("net/ipv4/conf/$device/$name")
        done
    done
    for device; do files+=("net/ipv6/conf/$device/disable_ipv6"); done
    files+=(net/ipv4/tcp_congestion_control net/ipv4/tcp_rmem net/ipv4/tcp_wmem net/core/rmem_max net/core/wmem_max)
    set +f # ip_forward sets that of every device
    for file in /proc/sys/net/ipv4/conf/*/forwarding /proc/sys/net/mptcp/* /proc/sys/net/bridge/*; do
        device=${file%/*} device=${device##*/}
        case $file in
            */available_*) ;;
            */conf/*) [[ $device == all || $device == default || ${TEST[$device]-} ]] || files+=("${file#/proc/sys/}") ;;
            *) files+=("${file#/proc/sys/}") ;;
        esac
    done
    set -f
    for file in "${files[@]}"; do
        { mapfile -t words <"/proc/sys/$file"; } 2>/dev/null || continue
        words=(${words[*]-})
        STATE+=("sysctl $file=${words[*]-}")
    done
    for device; do # IPv6 has an MTU of its own, which follows the device's whenever that is set up (addrconf_notify)
        { read -r words <"/proc/sys/net/ipv6/conf/$device/mtu"; } 2>/dev/null || continue
        [[ $words == "${MTU[$device]-}" ]] || STATE+=("ipv6mtu $device $words")
    done
}

offloads() { # NIC: those that can be switched; of a group its members. "off(on)": asked for, and held back by another
    local lines line name value index
    mapfile -t lines < <(quiet ethtool -k "$1")
    for ((index = 1; index < ${#lines[@]}; index++)); do
        line=${lines[index]} name=${line%%:*} value=${line#*: }
        [[ $value == *'[fixed]'* || $name == *' '* ]] && continue
        [[ $name != $'\t'* && ${lines[index + 1]-} == $'\t'* ]] && continue
        case ${name#$'\t'} in
            rx-checksumming) name=rx ;;
            generic-segmentation-offload) name=gso ;;
            generic-receive-offload) name=gro ;;
            large-receive-offload) name=lro ;;
            tcp-segmentation-offload) name=tso ;;
            tx-checksumming) name=tx ;;
            scatter-gather) name=sg ;;
            rx-vlan-offload) name=rxvlan ;;
            tx-vlan-offload) name=txvlan ;;
            ntuple-filters) name=ntuple ;;
            receive-hashing) name=rxhash ;;
        esac
        case $value in
            'off [requested on]') value='off(on)' ;;
            'on [requested off]') value='on(off)' ;;
            *) value=${value%% *} ;;
        esac
        STATE+=("offload $1 ${name#$'\t'}=$value")
    done
}

qdiscs() { # NIC: "default" is what the kernel puts there by itself; a handle that it chose is left out
    local lines=() line words index kept parents=' ' own='' classes filters handle place
    for line in "${QDISCS[@]}"; do [[ $line == *" dev $1 "* ]] && lines+=("${line/ dev $1 / }"); done
    for line in "${lines[@]}"; do [[ $line =~ ' parent '([0-9a-f]+): ]] && parents+="${BASH_REMATCH[1]} "; done
    for line in "${lines[@]}"; do
        words=($line)
        ((${#words[@]} > 3)) || continue
        if [[ ${words[1]} == ingress || ${words[1]} == clsact ]]; then
            STATE+=("qdisc $1 ${words[1]}")
            own=1
            continue
        fi
        handle=${words[2]%:} place=root
        [[ $handle == 0 ]] && continue
        [[ ${words[3]} == parent ]] && place="parent ${words[4]}"
        ((16#$handle < 0x8000)) || [[ $parents == *" $handle "* ]] && place+=" handle $handle:"
        [[ $place == root* ]] && own=root
        kept=()
        for ((index = 4; index < ${#words[@]}; index++)); do
            case ${words[index]} in
                refcnt | direct_packets_stat) ((index++)) ;;
                deleted | offloaded) ;;
                *) [[ $index == 4 && ${words[3]} == parent ]] || kept+=("${words[index]}") ;;
            esac
        done
        STATE+=("qdisc $1 $place ${words[1]}${kept[*]:+ ${kept[*]}}")
    done
    [[ $own == root ]] || STATE+=("qdisc $1 root default")
    [[ $own ]] || return
    mapfile -t classes < <(quiet tc class show dev "$1")
    mapfile -t filters < <(quiet tc filter show dev "$1"; quiet tc filter show dev "$1" ingress; quiet tc filter show dev "$1" egress)
    index=0
    for line in "${classes[@]}"; do [[ $line =~ ^class\ (htb|hfsc|drr|qfq|ets)\  ]] && ((index++)); done
    ((index)) && STATE+=("classes $1 $index")
    ((${#filters[@]})) && STATE+=("filters $1 ${#filters[@]}")
}

read_state() { # NIC...: sets STATE
    local nic family lines line text QDISCS
    STATE=() TEST=() LIFETIME=() OWNED=()
    for nic; do TEST[$nic]=1; done
    asked -o -d -- 'link show' 'address show' 'mptcp endpoint show' 'mptcp limits show'
    links "${LINES[@]}"
    addresses "${LINES[@]}"
    multipath "${LINES[@]}"
    asked -o -d -- 'neigh show nud all' 'neigh show proxy' 'nexthop show'
    neighbours "${LINES[@]}"
    nexthops "${LINES[@]}"
    for family in 4 6; do
        asked -o "-$family" -- 'route show table all' 'rule show'
        routes "$family" "${LINES[@]}"
    done
    sysctls "$@"
    text=$(quiet tc qdisc show) || STATE+=('unread qdisc')
    mapfile -t QDISCS < <(printf '%s' "$text")
    for nic; do
        offloads "$nic"
        qdiscs "$nic"
    done
    command -v nft >/dev/null || return 0
    text=$(quiet nft list tables inet) || STATE+=('unread table') # iptables, container engines: families ip, ip6, bridge
    mapfile -t lines < <(printf '%s' "$text")
    for line in "${lines[@]}"; do [[ $line == 'table inet '* ]] && STATE+=("$line"); done
}

load() { # FOLDER: sets NICS, BEFORE, LIVED, ONLY (empty: everything) and KEPT (no device counts as new). 1: sets WHY
    local line words
    NICS=() BEFORE=() ONLY=() KEPT=
    is_whole "$1" || return 1
    declare -gA LIVED=()
    unseal "$ROOT/$1/lifetimes"
    for line in "${LINES[@]}"; do words=($line) && ((${#words[@]} == 6)) && LIVED["${words[*]:3}"]="${words[*]:0:3}"; done
    unseal "$ROOT/$1/saved"
    BEFORE=("${LINES[@]}")
    for line in "${BEFORE[@]}"; do words=($line) && [[ $line == link\ * ]] && NICS+=("${words[1]}"); done
    [[ $1 == *.left ]] || return 0
    KEPT=1 # without a list, what is new since may be somebody else's
    [[ -e $ROOT/$1/left || -L $ROOT/$1/left ]] || return 0 # there was no room for it
    WHY="$ROOT/$1/left is damaged"
    unseal "$ROOT/$1/left" && ONLY=("${LINES[@]}") KEPT= WHY=
}

compare() { # sets MINUS and PLUS: what differs between BEFORE and STATE, and is the run's
    local -A was=() is=() only=() keys=() devices=() read=() unread=()
    local line
    for line in "${BEFORE[@]}"; do
        was[$line]=1 read[${line%% *}]=1
        case $line in
            sysctl\ *) keys[${line%%=*}]+=b ;;
            device\ *) devices[${line#* }]=1 ;;
            unread\ *) unread[${line#* }]=1 ;;
        esac
    done
    for line in "${STATE[@]}"; do
        is[$line]=1
        case $line in
            sysctl\ *) keys[${line%%=*}]+=a ;;
            unread\ *) unread[${line#* }]=1 ;;
        esac
    done
    # What could not be read is not known to differ: each host has rules of a family, and limits, or has none of the kind.
    [[ ${unread[qdisc]-} ]] && unread[classes]=1 unread[filters]=1
    [[ ${read[rule6]-} ]] || unread[rule6]=1
    [[ ${read[limits]-} ]] || unread[limits]=1 unread[endpoint]=1
    unread[unread]=1
    for line in "${ONLY[@]}"; do only[$line]=1; done
    MINUS=() PLUS=()
    for line in "${BEFORE[@]}"; do
        [[ ${is[$line]-} || ${unread[${line%% *}]-} ]] && continue
        [[ $line == sysctl\ * && ${keys[${line%%=*}]} == b ]] && continue # that device or module is gone
        ((!${#ONLY[@]})) || [[ ${only["- $line"]-} ]] && MINUS+=("$line")
    done
    for line in "${STATE[@]}"; do
        [[ ${was[$line]-} || ${unread[${line%% *}]-} ]] && continue
        [[ $line == sysctl\ * && ${keys[${line%%=*}]} == a ]] && continue # that device or module is new
        [[ $line == device\ * ]] && { [[ $KEPT ]] || is_theirs "${line#* }"; } && continue
        ((!${#ONLY[@]})) || [[ ${only["+ $line"]-} ]] && PLUS+=("$line")
    done
    ((${#ONLY[@]})) && superseded
}

is_theirs() { # DEVICE that is new, of somebody else: hardware that appeared; a container's or a virtual machine's
    [[ ! ${KIND[$1]-} || ${MASTER[$1]-} && ${devices[${MASTER[$1]}]-} ]]
}

superseded() { # of what an earlier restore left: drop from MINUS what somebody has set to a third value since
    local line kept=()
    local -A seen=() now_is=()
    for line in "${STATE[@]}"; do key_of "$line" && seen[$WORD]=1; done
    for line in "${PLUS[@]}"; do key_of "$line" && now_is[$WORD]=1; done
    for line in "${MINUS[@]}"; do
        key_of "$line" && [[ ${seen[$WORD]-} && ! ${now_is[$WORD]-} ]] || kept+=("$line")
    done
    MINUS=("${kept[@]}")
}

key_of() { # LINE: sets WORD to what the line gives a value to; 1: it is a line that is there or not
    case $1 in
        link\ *) WORD=${1#link } WORD="link ${WORD%% *}" ;;
        limits\ *) WORD=limits ;;
        sysctl\ * | offload\ *) WORD=${1%%=*} ;;
        *) return 1 ;;
    esac
}

differences() { # sets FOUND
    FOUND=()
    local line
    for line in "${MINUS[@]}"; do FOUND+=("- $line"); done
    for line in "${PLUS[@]}"; do FOUND+=("+ $line"); done
}

# --- putting it back ---------------------------------------------------------------------------------------------------------

try() { DONE+=("$*"); quiet "$@" >/dev/null; }

field() { # KEY LINE: sets WORD to the value of KEY=VALUE
    WORD=${2#* "$1"=} WORD=${WORD%% *}
}

heal_devices() {
    local line name
    for line in "${PLUS[@]}"; do
        [[ $line == device\ * ]] || continue
        name=${line#* }
        [[ ${KIND[$name]-} =~ ^($VIRTUAL)$ && ! -e /sys/class/net/$name/device && ! ${TEST[$name]-} ]] || continue
        try ip link delete dev "$name"
    done
}

heal_link() { # "link NIC ...": all but up or down
    local line=$1 nic now_is='' key value was
    nic=${line#* } nic=${nic%% *}
    for was in "${PLUS[@]}"; do [[ $was == "link $nic "* ]] && now_is=$was; done
    [[ $now_is ]] || return
    for key in master mac mtu qlen promisc arp addrgenmode; do
        field "$key" "$line"; value=$WORD
        field "$key" "$now_is"
        [[ $value == "$WORD" ]] && continue
        case $key in
            master) try ip link set dev "$nic" nomaster ;;
            mac | mtu) set_link "$nic" "${key/mac/address}" "$value" ;;
            qlen) try ip link set dev "$nic" txqueuelen "$value" ;;
            *) try ip link set dev "$nic" "$key" "$value" ;;
        esac
    done
    field master "$line"; value=$WORD
    field master "$now_is"
    [[ $value && $value != "$WORD" ]] && set_link "$nic" master "$value"
}

set_link() { # NIC WORD VALUE: some drivers take it only while the device is down
    try ip link set dev "$@" && return
    try ip link set dev "$1" down
    try ip link set dev "$@"
}

heal_port() { # "port NIC KIND OPTION VALUE..."
    local words=($1) index
    try ip link set dev "${words[1]}" type "${words[@]:2}" && return
    for ((index = 3; index < ${#words[@]}; index += 2)); do
        try ip link set dev "${words[1]}" type "${words[2]}" "${words[@]:index:2}"
    done
}

heal_offloads() { # NIC
    local line words=() name value
    for line in "${MINUS[@]}"; do
        [[ $line == "offload $1 "* ]] || continue
        name=${line##* } value=${name#*=} name=${name%%=*}
        [[ $value == *'('* ]] && value=${value#*(} value=${value%)}
        words+=("$name" "$value")
    done
    ((${#words[@]})) || return
    try ethtool -K "$1" "${words[@]}" && return
    for ((name = 0; name < ${#words[@]}; name += 2)); do try ethtool -K "$1" "${words[@]:name:2}"; done
}

add_qdisc() { # NIC PLACE... KIND OPTION...: tc takes most of its own output, but not every unit
    local nic=$1 place=() options=() plain=() one
    shift
    while [[ $1 == root || $1 == parent || $1 == handle ]]; do
        if [[ $1 == root ]]; then place+=(root); shift; else place+=("$1" "$2"); shift 2; fi
    done
    try tc qdisc replace dev "$nic" "${place[@]}" "$@" && return
    local kind=$1
    shift
    for one; do
        [[ $one =~ ^[0-9]+p$ ]] && one=${one%p}
        options+=("$one")
        [[ $one =~ ^[0-9]+b$ ]] && one=${one%b}
        plain+=("$one")
    done
    try tc qdisc replace dev "$nic" "${place[@]}" "$kind" "${options[@]}" && return
    try tc qdisc replace dev "$nic" "${place[@]}" "$kind" "${plain[@]}" && return
    try tc qdisc replace dev "$nic" "${place[@]}" "$kind"
}

heal_qdiscs() { # NIC
    local line words tree=
    for line in "${MINUS[@]}" "${PLUS[@]}"; do
        [[ $line == "qdisc $1 root"* || $line == "qdisc $1 parent"* ]] && tree=1
    done
    for line in "${PLUS[@]}"; do
        [[ $line == "qdisc $1 ingress" || $line == "qdisc $1 clsact" ]] && try tc qdisc del dev "$1" "${line##* }"
    done
    if [[ $tree ]]; then
        try tc qdisc del dev "$1" root
        for line in "${BEFORE[@]}"; do
            words=($line)
            [[ ($line == "qdisc $1 root"* || $line == "qdisc $1 parent"*) && $line != *' root default' ]] &&
                add_qdisc "$1" "${words[@]:2}"
        done
    fi
    for line in "${MINUS[@]}"; do
        [[ $line == "qdisc $1 ingress" || $line == "qdisc $1 clsact" ]] && try tc qdisc add dev "$1" "${line##* }"
    done
}

add_address() { # "address NIC FAMILY ADDRESS ..."
    local words=($1) life=() spent valid
    drop secondary -- "${words[@]:3}"
    if [[ ${LIVED["${words[*]:1:3}"]-} ]]; then # it runs out: with what is left of its time
        life=(${LIVED["${words[*]:1:3}"]})
        now
        spent=$(((NOW - life[0]) / 100)) valid=$((life[1] - spent))
        ((valid > 60)) || valid=60
        [[ ${life[2]} == forever ]] || life[2]=$((life[2] > spent ? life[2] - spent : 0))
        [[ ${life[2]} == forever ]] || ((life[2] <= valid)) || life[2]=$valid
        life=(valid_lft "$valid" preferred_lft "${life[2]}")
    fi
    try ip address add $WORD dev "${words[1]}" "${life[@]}"
}

del_address() { # the kernel tells addresses apart by address, length and peer
    local words=($1)
    local text=(${words[3]})
    [[ ${words[4]-} == peer ]] && text+=(peer "${words[5]}")
    try ip address del "${text[@]}" dev "${words[1]}"
}

heal_addresses() { # NIC FIRST: of IPv4 the order counts as well, since it decides which address is the source
    local line was=() is=() index
    if ((${#ONLY[@]} == 0)) && [[ $2 ]]; then
        for line in "${BEFORE[@]}"; do [[ $line == "address $1 inet "* ]] && was+=("$line"); done
        for line in "${STATE[@]}"; do [[ $line == "address $1 inet "* ]] && is+=("$line"); done
        for ((index = 0; index < ${#is[@]}; index++)); do [[ ${is[index]} == "${was[index]-}" ]] || break; done
        for line in "${is[@]:index}"; do del_address "$line"; done
        for line in "${was[@]:index}"; do add_address "$line"; done
    else
        for line in "${PLUS[@]}"; do [[ $line == "address $1 inet "* ]] && del_address "$line"; done
        for line in "${MINUS[@]}"; do [[ $line == "address $1 inet "* ]] && add_address "$line"; done
    fi
    for line in "${PLUS[@]}"; do [[ $line == "address $1 inet6 "* ]] && del_address "$line"; done
    for ((index = ${#MINUS[@]} - 1; index >= 0; index--)); do # the kernel lists the newest first
        [[ ${MINUS[index]} == "address $1 inet6 "* ]] && add_address "${MINUS[index]}"
    done
}

route() { # VERB LINE
    local line=$2 words life=() family=-4
    line=${line//rto_min lock /rto_min } # what ip(8) prints in other words than it takes
    if [[ $line =~ ^(.*' segs ')[0-9]+' [ '(.*)' ]'(.*)$ ]]; then
        words=${BASH_REMATCH[2]}
        line=${BASH_REMATCH[1]}${words// /,}${BASH_REMATCH[3]}
    fi
    words=($line)
    [[ ${words[0]} == route6 ]] && family=-6
    if [[ $1 != del && ${LIVED["expiry ${words[*]:0:2}"]-} ]]; then # it runs out: with what is left of its time
        life=(${LIVED["expiry ${words[*]:0:2}"]})
        now
        life=(expires $((life[1] - (NOW - life[0]) / 100)))
        ((life[1] > 60)) || life[1]=60
    fi
    try ip $family route "$1" "${words[@]:1}" "${life[@]}"
}

heal_neighbours() {
    local line words
    for line in "${PLUS[@]}"; do
        words=($line)
        case $line in
            neighbour\ *) try ip neigh del "${words[2]}" dev "${words[1]}" ;;
            proxy\ *) try ip neigh del proxy "${words[2]}" dev "${words[1]}" ;;
        esac
    done
    for line in "${MINUS[@]}"; do
        words=($line)
        case $line in
            neighbour\ *) try ip neigh replace "${words[2]}" dev "${words[1]}" "${words[@]:3}" ;;
            proxy\ *) try ip neigh replace proxy "${words[2]}" dev "${words[1]}" "${words[@]:3}" ;;
        esac
    done
}

heal_nexthops() {
    local line words
    for line in "${PLUS[@]}"; do words=($line) && [[ $line == nexthop* ]] && try ip nexthop del id "${words[2]}"; done
    for line in "${MINUS[@]}"; do [[ $line == nexthop* && $line != *' group '* ]] && try ip nexthop replace ${line#nexthop }; done
    for line in "${MINUS[@]}"; do [[ $line == nexthop*' group '* ]] && try ip nexthop replace ${line#nexthop }; done
}

heal_routes() {
    local line
    # Rules as well decide whether a gateway can be reached, and so whether its route is taken.
    for line in "${PLUS[@]}"; do [[ $line == rule* ]] && rule del "$line"; done
    for line in "${PLUS[@]}"; do [[ $line == route* ]] && route del "$line"; done
    for line in "${MINUS[@]}"; do # the way to a gateway first
        [[ $line == route* && $line != *' via '* ]] && { route add "$line" || route append "$line"; }
    done
    for line in "${MINUS[@]}"; do
        [[ $line == route* && $line == *' via '* ]] && { route add "$line" || route append "$line"; }
    done
}

rule() { # VERB LINE
    local words=($2) family=-4
    [[ ${words[0]} == rule6 ]] && family=-6
    local text=("${words[@]:2}")
    [[ ${text[*]} == *' lookup [l3mdev-table]' ]] && text=("${text[@]:0:${#text[@]}-2}" l3mdev)
    try ip $family rule "$1" priority "${words[1]%:}" "${text[@]}"
}

heal_rest() {
    local line words
    for line in "${PLUS[@]}"; do words=($line) && [[ $line == ipv6mtu* ]] && set_ipv6_mtu "${words[1]}" "${MTU[${words[1]}]}"; done
    for line in "${MINUS[@]}"; do words=($line) && [[ $line == ipv6mtu* ]] && set_ipv6_mtu "${words[@]:1}"; done
    for line in "${MINUS[@]}"; do [[ $line == rule* ]] && rule add "$line"; done
    for line in "${MINUS[@]}"; do words=($line) && [[ $line == limits* ]] && try ip mptcp limits set "${words[@]:1}"; done
    for line in "${PLUS[@]}"; do
        [[ $line =~ ^endpoint\ .*\ id\ ([0-9]+)(\ |$) ]] && try ip mptcp endpoint delete id "${BASH_REMATCH[1]}"
    done
    for line in "${MINUS[@]}"; do words=($line) && [[ $line == endpoint* ]] && try ip mptcp endpoint add "${words[@]:1}"; done
    for line in "${PLUS[@]}"; do words=($line) && [[ $line == 'table inet '* ]] && try nft delete table inet "${words[2]}"; done
}

set_ipv6_mtu() { # NIC MTU
    DONE+=("printf %s $2 > /proc/sys/net/ipv6/conf/$1/mtu")
    { printf '%s' "$2" >"/proc/sys/net/ipv6/conf/$1/mtu"; } 2>/dev/null
}

heal_sysctls() {
    local line file
    for line in "${MINUS[@]}"; do
        [[ $line == sysctl\ * ]] || continue
        file=${line#* } file=${file%%=*}
        DONE+=("printf %s '${line#*=}' > /proc/sys/$file")
        { printf '%s' "${line#*=}" >"/proc/sys/$file"; } 2>/dev/null
    done
}

heal() { # FIRST: one pass over all that differs
    local line nic
    heal_devices
    heal_sysctls
    for line in "${MINUS[@]}"; do [[ $line == link\ * ]] && heal_link "$line"; done
    for line in "${MINUS[@]}"; do [[ $line == port\ * ]] && heal_port "$line"; done
    for nic in "${NICS[@]}"; do
        heal_offloads "$nic"
        heal_qdiscs "$nic"
    done
    for line in "${MINUS[@]}"; do
        [[ $line == link\ * ]] || continue
        nic=${line#* } nic=${nic%% *}
        field up "$line"
        if [[ $WORD == yes ]]; then try ip link set dev "$nic" up; else try ip link set dev "$nic" down; fi
    done
    for nic in "${NICS[@]}"; do heal_addresses "$nic" "$1"; done
    heal_neighbours
    heal_nexthops
    heal_routes
    heal_rest
}

settle() { # an IPv6 address is no route's source before the kernel knows that nobody else has it (RFC 4862): at most 3 s
    local nic lines deadline
    now; deadline=$((NOW + 300))
    for nic in "${NICS[@]}"; do
        while ((NOW < deadline)); do
            mapfile -t lines < <(quiet ip -6 -o address show dev "$nic" tentative)
            ((${#lines[@]})) || break
            sleep 0.1
            now
        done
    done
}

heal_all() { # sets CHANGED (what could be put back) and FOUND (what is left)
    local pass line former='' were
    local -A kept=()
    DONE=()
    read_state "${NICS[@]}"
    compare
    differences
    were=("${FOUND[@]}")
    for ((pass = 1; pass <= PASSES; pass++)); do
        if ((pass > 1)); then
            ((${#FOUND[@]})) || break
            ((pass > 2)) && [[ "${FOUND[*]}" == "$former" ]] && break # once more would not help
            former="${FOUND[*]}"
            for line in "${MINUS[@]}"; do [[ $line == route6* ]] && { settle; break; }; done
        fi
        if ((pass == 1)); then heal first; else heal ''; fi
        ((${#FOUND[@]} + ${#DONE[@]})) || break
        read_state "${NICS[@]}"
        compare
        differences
    done
    CHANGED=()
    for line in "${FOUND[@]}"; do kept[$line]=1; done
    for line in "${were[@]}"; do [[ ${kept[$line]-} ]] || CHANGED+=("$line"); done
    ((${#FOUND[@]} == 0))
}

# --- the run's programs ------------------------------------------------------------------------------------------------------

group_of() { # RUN: sets GROUP, the folder of its control group, where there are control groups (cgroups(7), version 2)
    local base
    GROUP=
    for base in "${CHANNOVER_CGROUP-/sys/fs/cgroup}" "${CHANNOVER_CGROUP-/sys/fs/cgroup/unified}"; do
        [[ $base && -w $base/cgroup.procs ]] && { GROUP=$base/channover-$1; return; }
    done
    return 1
}

members() { # RUN: sets MEMBERS: who has its token or is of its control group, and their children
    local pid one folder found env
    local -A parent=() spare=() ours=()
    MEMBERS=()
    pid=$$
    while [[ $pid != 0 ]] && stat_of "$pid"; do spare[$pid]=1 pid=$PARENT; done
    if group_of "$1" && [[ -d $GROUP ]]; then
        shopt -s globstar
        set +f
        for folder in "$GROUP" "$GROUP"/**/; do
            { mapfile -t found <"${folder%/}/cgroup.procs"; } 2>/dev/null && for pid in "${found[@]}"; do ours[$pid]=1; done
        done
        set -f
    fi
    set +f
    for folder in /proc/[0-9]*; do
        pid=${folder##*/}
        { mapfile -d '' -t env <"$folder/environ"; } 2>/dev/null || continue
        for one in "${env[@]}"; do [[ $one == "CHANNOVER_RUN=$1" ]] && ours[$pid]=1 && break; done
        stat_of "$pid" && [[ $STATE_OF != Z ]] && parent[$pid]=$PARENT
    done
    set -f
    if ((${#ours[@]})); then
        found=1
        while ((found)); do
            found=0
            for pid in "${!parent[@]}"; do
                [[ ! ${ours[$pid]-} && ${ours[${parent[$pid]}]-} && ! ${spare[${parent[$pid]}]-} ]] && ours[$pid]=1 found=1
            done
        done
    fi
    for pid in "${!ours[@]}"; do [[ ${spare[$pid]-} || ! ${parent[$pid]-} ]] || MEMBERS+=("$pid"); done
    ((${#MEMBERS[@]}))
}

end_programs() { # RUN: SIGTERM, a second, SIGKILL, until there is none
    local deadline signal=TERM
    members "$1" || { leave_group "$1"; return; }
    now; deadline=$((NOW + 100))
    kill -TERM "${MEMBERS[@]}" 2>/dev/null
    while members "$1"; do
        now
        if ((NOW >= deadline)); then
            ((NOW >= deadline + 500)) && { say "processes ${MEMBERS[*]} of run $1 do not end"; break; }
            [[ $GROUP && -e $GROUP/cgroup.kill ]] && { echo 1 >"$GROUP/cgroup.kill"; } 2>/dev/null
            kill -KILL "${MEMBERS[@]}" 2>/dev/null
        fi
        sleep 0.05
    done
    leave_group "$1"
}

leave_group() { # RUN: take its control group away
    local folder
    group_of "$1" && [[ -d $GROUP ]] || return
    set +f
    for folder in "$GROUP"/*/ "$GROUP"; do [[ -d $folder ]] && rmdir "$folder" 2>/dev/null; done
    set -f
}

run_program() { # RUN PROGRAM...: it has the token; where it may wipe that (nginx, sshd) its control group or parent tells
    local run=$1 child code
    shift
    is_held "$run" || die 3 "run $run does not hold the lease"
    if group_of "$run" && { mkdir -p "$GROUP" && echo $$ >"$GROUP/cgroup.procs"; } 2>/dev/null; then
        is_held "$run" || die 3 "run $run does not hold the lease"
        CHANNOVER_RUN=$run exec "$@"
    fi
    if [[ ${CHANNOVER_RUN-} != "$run" ]]; then
        self
        CHANNOVER_RUN=$run exec "$BASH" "${SELF[@]}" run "$run" "$@"
    fi
    set -m # else the shell has it ignore SIGINT
    "$@" <&0 &
    child=$!
    trap 'kill -TERM $child 2>/dev/null' TERM
    trap 'kill -INT $child 2>/dev/null' INT
    trap 'kill -HUP $child 2>/dev/null' HUP
    while :; do
        wait "$child"
        code=$?
        stat_of "$child" || break # a signal ends a wait as well
    done
    exit "$code"
}

# --- the lease ---------------------------------------------------------------------------------------------------------------

finish() { # RUN: end its programs, put the host back, release it; sets CHANGED, FOUND and DONE. 1: something is left
    local run=$1 folder=$ROOT/$1 fd line text=
    CHANGED=() FOUND=() DONE=()
    { exec {fd}<"$folder"; } 2>/dev/null || { recall "$run"; return; }
    flock "$fd"
    [[ /proc/self/fd/$fd -ef $folder ]] || { exec {fd}<&-; recall "$run"; return; } # another did it
    mv -T "$folder/beat" "$folder/ended" 2>/dev/null
    end_programs "$run"
    if load "$run"; then heal_all; else unreadable "$run"; FOUND=("- record $run"); fi
    end_programs "$run"
    if ((${#FOUND[@]} == 0)); then
        forget "$run"
    else
        for line in "${FOUND[@]}"; do text+=$line$'\n'; done
        seal "$folder/left" "${text%$'\n'}" || rm -f "$folder/left"
        rm -rf "$folder.left"
        mv -T "$folder" "$folder.left"
    fi
    exec {fd}<&-
    ((${#FOUND[@]} == 0))
}

recall() { # RUN: sets FOUND to what another finish of it left; 1: something
    unseal "$ROOT/$1.left/left" && FOUND=("${LINES[@]}")
    [[ ! -d $ROOT/$1.left ]]
}

forget() { # FOLDER: gone at once, then from the disk; ROOT with the last one, unless a take is under way
    local fd
    mv -T "$ROOT/$1" "$ROOT/.gone-$1-$$" && rm -rf "$ROOT/.gone-$1-$$"
    { exec {fd}<"$ROOT"; } 2>/dev/null || return 0
    flock -n "$fd" && [[ /proc/self/fd/$fd -ef $ROOT ]] && quiet rmdir "$ROOT"
    exec {fd}<&-
}

mend() { # RUN.left FORCE: try once more what could not be put back; nothing else, since it is another's by now
    local name=$1 fd line text=
    CHANGED=() FOUND=() DONE=()
    { exec {fd}<"$ROOT/$name"; } 2>/dev/null || return 0
    flock "$fd"
    [[ /proc/self/fd/$fd -ef $ROOT/$name ]] || { exec {fd}<&-; return 0; }
    if load "$name"; then heal_all; else unreadable "$name"; FOUND=("- record ${name%.left}"); fi
    if ((${#FOUND[@]} == 0)) || [[ $2 ]]; then
        forget "$name"
    elif [[ ! $WHY ]]; then
        for line in "${FOUND[@]}"; do text+=$line$'\n'; done
        seal "$ROOT/$name/left" "${text%$'\n'}" || rm -f "$ROOT/$name/left"
    fi
    exec {fd}<&-
    ((${#FOUND[@]} == 0))
}

told() { # what finish found, as lines
    local line
    for line in "${CHANGED[@]}"; do printf 'changed: %s\n' "$line"; done
    for line in "${FOUND[@]}"; do printf 'left: %s\n' "$line"; done
}

saved_text() { # NIC...: sets TEXT and LIVES
    local key
    stacked "$@"
    read_state "${NICS[@]}"
    printf -v TEXT '%s\n' "${STATE[@]}"
    TEXT=${TEXT%$'\n'} LIVES=
    now
    for key in "${!LIFETIME[@]}"; do LIVES+="$NOW ${LIFETIME[$key]} $key"$'\n'; done
    LIVES=${LIVES%$'\n'}
}

wants_nics() {
    local nic lines words
    (($#)) || die 2 "name the test NICs"
    for nic; do
        [[ $nic =~ ^[A-Za-z0-9_][A-Za-z0-9_.:@+-]{0,14}$ ]] || die 2 "'$nic' is no name of a NIC"
        mapfile -t lines < <(quiet ip -o link show dev "$nic")
        words=(${lines[0]-})
        [[ ${words[1]-} == "$nic:" || ${words[1]-} == "$nic@"* ]] || die 2 "there is no NIC $nic here: 'ip link' lists them"
    done
}

start_watcher() { # RUN: 0 when it runs
    local run=$1 folder=$ROOT/$1 fd
    if [[ -d /run/systemd/system ]] && command -v systemd-run >/dev/null; then
        quiet systemd-run --quiet --collect --unit "channover-$run" --property Restart=on-failure \
            --setenv "CHANNOVER_ROOT=$ROOT" \
            ${CHANNOVER_CGROUP+--setenv "CHANNOVER_CGROUP=$CHANNOVER_CGROUP"} \
            "$BASH" "$folder/guardian.sh" watch "$run" </dev/null >/dev/null && awaits_watcher "$run" && return
    fi
    (
        cd /
        set +f
        for fd in /proc/"$BASHPID"/fd/*; do ((${fd##*/} > 2)) && eval "exec ${fd##*/}>&-"; done
        exec setsid "$BASH" "$folder/guardian.sh" watch "$run" </dev/null >/dev/null 2>&1
    ) 2>/dev/null &
    awaits_watcher "$run"
}

awaits_watcher() {
    local count
    for ((count = 0; count < 100; count++)); do
        is_watched "$1" && return
        sleep 0.03
    done
    return 1
}

lock_root() { # one take at a time has it, until its end; then ROOT goes if it has nothing to hold
    local fd count
    for ((count = 0; count < 50; count++)); do
        mkdir -p -m 700 "$ROOT" 2>/dev/null
        { exec {fd}<"$ROOT"; } 2>/dev/null || continue # a run that ended has just removed it
        flock -w 30 "$fd" || die 75 "$ROOT has been locked for 30 s"
        [[ /proc/self/fd/$fd -ef $ROOT ]] && trap 'quiet rmdir "$ROOT"' EXIT && return
        exec {fd}<&-
    done
    die 74 "cannot write to $ROOT: make room there"
}

awaits_end() { # RUN: until the restore that is under way has ended, where one is; ENDING seconds at most
    local fd
    { exec {fd}<"$ROOT/$1"; } 2>/dev/null || return
    flock -s -w "$ENDING" "$fd"
    exec {fd}<&-
}

do_take() {
    (($# >= 4)) || die 2 "usage: take RUN TTL WHO NIC..."
    local run=$1 ttl=$2 who=$3 other since stage text
    shift 3
    wants_run "$run"
    [[ $ttl =~ ^[1-9][0-9]{0,4}$ ]] || die 2 "TTL is a whole number of seconds, 1 to 99999: '$ttl' is not"
    wants_nics "$@"
    who=${who//[[:cntrl:]]/ } who=${who:0:200}
    lock_root
    runs
    for other in "${RUNS[@]}"; do
        is_fresh "$other" || awaits_end "$other"
        [[ -d $ROOT/$other ]] || continue
        word "$other" who; text=$WORD
        word "$other" since; since=$WORD
        if is_alive "$other"; then
            printf 'taken by %s since %s, run %s\n' "$text" "$since" "$other"
            is_watched "$other" || is_restoring "$other" || say "run $other has lost its watcher: 'restore' starts it again"
            exit 75
        fi
        if is_unreadable "$other"; then
            unreadable "$other"
            exit 1
        fi
        say "run $other of $text, since $since, died: what it changed is put back first"
        finish "$other"
        told >&2
    done
    runs # what an end that was waited for could not put back counts as well
    for other in "${LEFTS[@]}"; do
        mend "$other" '' || { say "run ${other%.left} left what cannot be put back ('restore --force' forgets it)"; told >&2; }
    done
    set +f
    rm -rf "$ROOT"/.new-* "$ROOT"/.gone-* # what was cut short: without the lock nobody makes one
    set -f
    stage=$ROOT/.new-$run
    printf -v since '%(%Y-%m-%dT%H:%M:%SZ)T' -1
    saved_text "$@"
    [[ $'\n'$TEXT == *$'\nrule '* ]] || die 1 "ip(8) does not tell the state; nothing was changed"
    self
    if ((${#SELF[@]} == 1)); then text=$(<"${SELF[0]}"); else text=${SELF[1]%$'\n'}; fi
    now
    printf -v other '%012d.%02d %010d' $((NOW / 100)) $((NOW % 100)) $$
    if ! { mkdir "$stage" 2>/dev/null && put "$stage/who" "${who:-somebody}" && put "$stage/since" "$since" &&
        seal "$stage/ttl" "$ttl" && seal "$stage/nics" "$*" && put "$stage/beat" "$other" && seal "$stage/saved" "$TEXT" &&
        seal "$stage/lifetimes" "$LIVES" &&
        put "$stage/watcher" '0000000000 00000000000000000000' && put "$stage/guardian.sh" "$text"; }; then
        rm -rf "$stage"
        die 74 "cannot save the state in $ROOT: make room there; nothing was changed"
    fi
    mv -T "$stage" "$ROOT/$run" || die 74 "cannot save the state in $ROOT"
    if ! start_watcher "$run"; then
        forget "$run"
        die 1 "the watcher does not start; nothing was changed"
    fi
    printf 'held %s\n' "$ROOT/$run"
}

do_beat() {
    wants_run "${1-}"
    local run=$1 line code stopped=
    is_held "$run" || die 3 "run $run does not hold the lease"
    looks_every "$run"
    trap '' HUP PIPE
    trap 'stopped=1' TERM INT
    while is_held "$run"; do
        now
        renew "$run" "$NOW"
        { echo; } 2>/dev/null # so that the controller knows that it is heard
        while :; do
            read -r -t "$(((EVERY + 1) / 2))" line
            code=$?
            is_held "$run" || break 2
            if ! is_watched "$run" && ! is_restoring "$run"; then
                say "run $run has lost its watcher: started again"
                start_watcher "$run" || die 1 "the watcher does not start"
            fi
            ((code > 128)) && [[ ! $stopped ]] || break
        done
        if ((code)); then # the end of the input, or a signal
            now
            word "$run" ttl
            beat_of "$run" && ((BEATER == $$ && WORD > GRACE)) && renew "$run" $((NOW - (WORD - GRACE) * 100))
            exit 0
        fi
    done
    die 3 "run $run does not hold the lease any more"
}

do_watch() {
    wants_run "${1-}"
    local run=$1 never stopped= unread=0 code pauses
    trap '' HUP INT PIPE
    trap 'stopped=1' TERM
    { echo -900 >/proc/self/oom_score_adj; } 2>/dev/null
    stat_of $$
    [[ -d $ROOT/$run ]] || exit 0
    printf '%010d %020d\n' $$ "$START" 2>/dev/null 1<>"$ROOT/$run/watcher"
    looks_every "$run"
    exec {never}<> <(:) # nothing is ever read here: a pause that starts no process
    while [[ -d $ROOT/$run && ! $stopped ]]; do
        is_held "$run" || break # its end was begun, and may have been cut short
        is_fresh "$run"
        code=$?
        if ((code == 0)); then
            unread=0
        elif ((code == 1 && unread++ > 1)); then # looked at three times
            break
        elif ((code == 1)); then
            read -r -t 0.05 -u "$never"
            continue
        fi # what cannot be read is no reason to act: the next beat writes it anew, or somebody looks
        for ((pauses = 0; pauses < EVERY && ! stopped; pauses++)); do
            read -r -t 0.5 -u "$never"
            is_held "$run" || break
        done
    done
    trap '' TERM
    is_whole "$run" || exit 0 # 'show' and each take say so
    finish "$run"
}

do_end() {
    wants_run "${1-}"
    local run=$1 count code watcher=
    if [[ ! -d $ROOT/$run ]]; then
        [[ -d $ROOT/$run.left ]] || die 3 "run $run does not hold the lease"
        CHANGED=() FOUND=()
        recall "$run"
        told
        exit 1
    fi
    is_watched "$run" && watcher=$WATCHER && stat_of "$watcher" && watcher+=" $START"
    finish "$run"
    code=$?
    told
    for ((count = 0; count < 40; count++)); do # it finds the folder gone and ends
        stat_of "${watcher% *}" && [[ $STATE_OF != Z && "${watcher% *} $START" == "$watcher" ]] || break
        ((count == 39)) && kill -KILL "${watcher% *}"
        sleep 0.05
    done
    exit "$code"
}

do_heal() { # between two tests: the state comes back, the lease stays
    local run=${1-} fd
    wants_run "$run"
    CHANGED=() FOUND=() DONE=()
    { exec {fd}<"$ROOT/$run"; } 2>/dev/null || die 3 "run $run does not hold the lease"
    flock "$fd"
    [[ /proc/self/fd/$fd -ef $ROOT/$run ]] && is_held "$run" || die 3 "run $run does not hold the lease"
    end_programs "$run"
    load "$run" || { unreadable "$run"; exit 1; }
    heal_all
    told
    ((${#FOUND[@]} == 0)) || exit 1
}

do_restore() {
    local force= only= name code=0 done_any=
    for name; do if [[ $name == --force ]]; then force=1; else only=$name; fi; done
    [[ ! $only ]] || wants_run "${only%.left}"
    runs
    for name in "${RUNS[@]}"; do
        [[ ! $only || $only == "$name" ]] || continue
        done_any=1
        if is_alive "$name" && [[ ! $force ]]; then
            word "$name" who
            say "run $name of $WORD is alive and is left alone; --force ends it"
            if ! is_watched "$name" && ! is_restoring "$name"; then
                start_watcher "$name" && say "its watcher had died: started again"
            fi
            code=75
            continue
        fi
        if is_unreadable "$name"; then
            unreadable "$name"
            if [[ ! $force ]]; then code=1; continue; fi
            if [[ $WHY != *'/beat is damaged' ]]; then
                end_programs "$name"
                forget "$name"
                continue
            fi
        fi
        is_watched "$name" || say "run $name has lost its watcher"
        finish "$name" || code=1
        restored "$name"
    done
    for name in "${LEFTS[@]}"; do
        [[ ! $only || ${only%.left} == "${name%.left}" ]] || continue
        done_any=1
        mend "$name" "$force" || code=1
        restored "$name"
    done
    [[ $done_any ]] || say "there is nothing to restore"
    exit "$code"
}

restored() {
    local line
    printf 'restored: %s\n' "$1"
    told
    ((${#CHANGED[@]})) && for line in "${DONE[@]}"; do printf 'did: %s\n' "$line"; done
}

do_show() {
    until shown; do :; done # what ends just now is looked at again
    printf '%s' "${SHOWN:-state=free$NL}"
}

shown() { # sets SHOWN; 1: a run's folder went in the meantime
    local name key state watcher line text
    SHOWN= NL=$'\n'
    runs
    for name in "${RUNS[@]}" "${LEFTS[@]}"; do
        LEFT_OVER=0 watcher=dead
        if [[ $name == *.left ]]; then state=unrestored
        elif is_fresh "$name"; then state=held
        elif is_restoring "$name"; then state=restoring
        elif is_unreadable "$name"; then state=unreadable
        else state=lapsed; fi
        ((LEFT_OVER > 0)) || LEFT_OVER=0
        is_watched "$name" && watcher=alive
        text="state=$state"$'\n'"run=${name%.left}"$'\n'"folder=$ROOT/$name"$'\n'
        for key in who since ttl nics; do word "$name" "$key"; text+="$key=${WORD:-unknown}"$'\n'; done
        printf -v line 'left=%d.%02d\nwatcher=%s\n' $((LEFT_OVER / 100)) $((LEFT_OVER % 100)) "$watcher"
        text+=$line
        if [[ $state == unrestored ]]; then
            unseal "$ROOT/$name/left" && for line in "${LINES[@]}"; do text+="difference=$line"$'\n'; done
        fi
        [[ -d $ROOT/$name ]] || return 1
        SHOWN+="${SHOWN:+$NL}$text"
    done
}

do_diff() {
    wants_run "${1-}"
    local line name=$1
    [[ -d $ROOT/$name ]] || name=$name.left
    [[ -d $ROOT/$name ]] || die 3 "run $1 has saved nothing here"
    load "$name" || { unreadable "$name"; exit 1; }
    ONLY=()
    read_state "${NICS[@]}"
    compare
    differences
    for line in "${FOUND[@]}"; do printf '%s\n' "$line"; done
}

do_save() { # the state as it is now counts as the one before
    wants_run "${1-}"
    is_held "$1" || die 3 "run $1 does not hold the lease"
    word "$1" nics
    saved_text $WORD
    if ! { seal "$ROOT/$1/.saved" "$TEXT" && seal "$ROOT/$1/.lifetimes" "$LIVES"; }; then
        rm -f "$ROOT/$1/.saved" "$ROOT/$1/.lifetimes"
        die 74 "cannot save the state in $ROOT: make room there; the one saved before stays"
    fi
    mv -T "$ROOT/$1/.lifetimes" "$ROOT/$1/lifetimes"
    mv -T "$ROOT/$1/.saved" "$ROOT/$1/saved"
}

main() {
    local command=${1-} code
    (($#)) && shift
    if [[ $command == run ]]; then
        wants_run "${1-}"
        (($# >= 2)) || die 2 "usage: run RUN PROGRAM..."
        run_program "$@"
    fi
    umask 077
    if [[ ${CHANNOVER_RUN+set} ]]; then # this one does not end with a run
        self
        unset CHANNOVER_RUN
        exec "$BASH" "${SELF[@]}" "$command" "$@"
    fi
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C TZ=UTC0
    [[ $command == state || ! -e $ROOT && ! -L $ROOT ]] || is_own "$ROOT" || [[ ! -e $ROOT && ! -L $ROOT ]] || # it may go just now
        die 1 "$ROOT is another's, a link or open to others: nothing is read there. Remove it, then take the host again"
    case $command in
        take | beat | watch | heal | end | restore | show | diff | save) "do_$command" "$@" ;;
        finish) wants_run "${1-}"; finish "$1"; code=$?; told; exit "$code" ;;
        state) wants_nics "$@"; stacked "$@"; read_state "${NICS[@]}"; printf '%s\n' "${STATE[@]}" ;;
        *) die 2 "no subcommand '$command': take, beat, run, heal, end, restore, show, state, diff, save, watch, finish" ;;
    esac
}

main "$@"
exit 0 # whatever else there is to tell has been told by an exit of its own
