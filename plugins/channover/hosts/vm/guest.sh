#!/bin/sh
# What a micro-VM's first process does, first in the initramfs (where virtme-ng has put busybox and the modules that it
# takes to mount a root), then in the root: the machine's own file system, read-only, under a tmpfs that takes all changes.
# It runs in busybox, without starting a program for each step: under emulation a program costs a tenth of a second.

console() { exec </dev/null >/dev/ttyS0 2>&1; }
stuck() { echo "channover: $channover is stuck: $1"; while :; do sleep 1000; done; }

in_initramfs() {
    mount -t proc proc /proc
    mount -t devtmpfs dev /dev
    console
    . /channover/settings
    . /modules/load_all.sh
    mkdir /lower /upper
    mount -t 9p -o ro,version=9p2000.L,trans=virtio,access=any,msize=524288,cache=loose /dev/root /lower ||
        stuck 'no root by 9p'
    mount -t tmpfs upper /upper
    mkdir /upper/upper /upper/work
    mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work root /newroot || stuck 'no overlay'
    cd /newroot
    mount --move /dev dev
    mount -t sysfs sys sys
    mount -t tmpfs -o mode=755 run run
    mount -t tmpfs -o mode=1777 tmp tmp
    mount -t tmpfs -o mode=700 home root # and with it the start-up files of this machine's shells
    mkdir -p dev/pts dev/shm run/lock run/sshd run/channover
    chmod 700 run/channover # what the guardian finds there it believes only in a folder of root's alone
    mount -t devpts devpts dev/pts
    mount -t tmpfs -o mode=1777 shm dev/shm
    mount -t cgroup2 cgroup2 sys/fs/cgroup
    release=$(uname -r)
    mkdir -p "lib/modules/$release"
    mount --bind "/lower$modules" "lib/modules/$release" || stuck "no modules in $modules"
    cp /channover/settings /channover/guest.sh /channover/client.pub run/channover/
    cp "/channover/$channover.key" run/channover/host.key
    chmod 600 run/channover/host.key run/channover/client.pub
    mount --move /proc proc
    exec switch_root /newroot "$busybox" sh /run/channover/guest.sh in_root
}

# Hosts that need no kernel of their own are namespaces of one machine: each has one test NIC as its eth1, processes and a folder
# /run/channover of its own, no control groups, and a port of sshd that leads into it.
begin_spaces() {
    mkdir /run/spaces
    number=1
    while [ "$number" -le "${spaces:-0}" ]; do
        unshare --net --mount --pid --uts --fork "$busybox" sh /run/channover/guest.sh in_space "$number" &
        while [ ! -s "/run/spaces/$number" ]; do sleep 0.1; done
        read -r pid <"/run/spaces/$number"
        ip link set "eth$number" netns "$pid"
        number=$((number + 1))
    done
}

ways_into_spaces() {
    number=1
    while [ "$number" -le "${spaces:-0}" ]; do
        echo "Port $((2200 + number))"
        number=$((number + 1))
    done
    number=1
    while [ "$number" -le "${spaces:-0}" ]; do
        enter='exec nsenter --target "$pid" --net --mount --pid --uts -- sh -c "${SSH_ORIGINAL_COMMAND:-bash}"'
        printf 'Match LocalPort %s\nForceCommand read -r pid </run/spaces/%s && %s\n' "$((2200 + number))" "$number" "$enter"
        number=$((number + 1))
    done
}

in_space() {
    read -r pid rest </proc/self/stat # as the machine numbers it, whose /proc this is still
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    mount -t tmpfs -o mode=700 run /run/channover
    hostname "$channover-$1"
    ip link set lo up
    echo "$pid" >"/run/spaces/$1"
    while [ ! -e "/sys/class/net/eth$1" ]; do sleep 0.1; done
    [ "$1" = 1 ] || ip link set "eth$1" name eth1
    idle
}

idle() { # takes leave of whoever has lost its parent
    while :; do
        sleep 1000000 &
        wait $!
    done
}

in_root() {
    . /run/channover/settings
    release=$(uname -r)
    export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
    trap 'reboot -f' INT TERM
    ln -s /proc/self/fd /dev/fd
    hostname "$channover"
    printf '127.0.0.1 localhost\n127.0.1.1 %s\n' "$channover" >/etc/hosts
    printf 'root:*:19000:0:99999:7:::\n' >/etc/shadow # without PAM, sshd refuses accounts that are locked
    sed -i '/^root:/s|[^:]*$|/bin/sh|' /etc/passwd # each command of a run begins with this shell: bash takes longer to start
    mkdir -p /etc/modprobe.d
    echo 'options bonding max_bonds=0' >/etc/modprobe.d/channover.conf # no bond that nobody asked for
    for name in reboot poweroff; do # the machine's own ask a service manager, and here is none
        printf '#!/bin/sh\nsync\nexec %s %s -f\n' "$busybox" "$name" >"/usr/local/sbin/$name"
        chmod 755 "/usr/local/sbin/$name"
    done
    ip link set lo up
    echo 20 >/proc/sys/net/ipv4/neigh/default/mcast_solicit # many emulated machines answer ARP late: 3 s are too few
    # On slow links MPTCP's buffers bound it, since what one path lost is waited for by all. Measured, three links of 10 Mbit/s:
    # 6.12 27.6 Mbit/s with a larger receive buffer. Before Linux 6.7 the send buffer grew as that of the largest subflow only:
    # 27.2 with these, where subflows take little in advance; 25.8 without that, 20 with the kernel's own. What a program asks for
    # itself (OpenVPN 1 MiB) has to be granted: with 208 KiB data arrive beyond the window, are dropped, and wait for time-outs
    # (0.1 instead of 16 Mbit/s).
    case $release in
        [45].* | 6.[0-6].*)
            echo 4194304 | tee /proc/sys/net/core/rmem_max >/proc/sys/net/core/wmem_max
            echo '4096 4194304 6291456' >/proc/sys/net/ipv4/tcp_rmem
            echo '4096 1048576 4194304' >/proc/sys/net/ipv4/tcp_wmem
            echo 16384 >/proc/sys/net/ipv4/tcp_notsent_lowat
            ;;
        *) echo '4096 1048576 6291456' >/proc/sys/net/ipv4/tcp_rmem ;;
    esac
    modprobe -a virtio_net tun
    # The NICs by MAC address: 52:54:00:c0:MACHINE:00 is the management NIC, then come the test NICs.
    for path in /sys/class/net/eth*; do
        read -r mac <"$path/address"
        ip link set "${path##*/}" name "nic$((0x${mac##*:}))"
    done
    for path in /sys/class/net/nic*; do
        number=${path##*/nic}
        if [ "$number" = 0 ]; then name=mgmt0; else name=eth$number; fi
        ip link set "nic$number" name "$name"
    done
    ip addr add 10.0.2.15/24 dev mgmt0
    ip link set mgmt0 up
    begin_spaces
    cat >/run/channover/sshd_config <<CONFIGURATION
HostKey /run/channover/host.key
AuthorizedKeysFile /run/channover/client.pub
PidFile /run/channover/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
KexAlgorithms -sntrup761*
UsePAM no
UseDNS no
StrictModes no
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
AddressFamily inet
Port 22
CONFIGURATION
    ways_into_spaces >>/run/channover/sshd_config
    /usr/sbin/sshd -f /run/channover/sshd_config || stuck 'no sshd'
    echo "channover: $channover is up"
    idle
}

[ $# -gt 0 ] || set -- in_initramfs
"$@"
