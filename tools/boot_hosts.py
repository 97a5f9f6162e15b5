"""Boot hosts that channover did not make: virtme-ng with its own init, tc for the cables, sshd by a shell script.

    sudo .venv/bin/python tools/boot_hosts.py --kernel 6.1 --nics 2

Two hosts (or more: they are cabled in pairs) with 2 or 3 test NICs each, for a person who writes an inventory by hand and
tries ``--target=physical`` on it. It prints what such an inventory needs, and runs until Ctrl-C. It imports nothing of the
project. Root is needed for taps; they live in this machine's own network, without addresses, and go with the hosts.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

IN_GUEST = """\
mkdir -p /run/sshd /run/host && cd /run/host
cp {folder}/{name}.key {folder}/client.pub . && chmod 600 *
rm -f /root/.bashrc /root/.profile; echo 'root:*:19000:0:99999:7:::' >/etc/shadow
modprobe -a virtio_net tun; udevadm settle
device=$(grep -l {mac}:00 /sys/class/net/*/address | cut -d/ -f5)
mount -t tmpfs -o mode=1777 tmp /tmp
ip link set lo up; ip link set $device up; ip address add 10.0.2.15/24 dev $device
server="$(command -v sshd) -D -e -p 22 -o HostKey=/run/host/{name}.key -o AuthorizedKeysFile=/run/host/client.pub"
server="$server -o UsePAM=no -o StrictModes=no -o PidFile=none -o UseDNS=no -f /dev/null"
server="$server -o \\"Subsystem=sftp internal-sftp\\""
"""
WITHOUT_SYSTEMD = "eval exec $server\n"
WITH_SYSTEMD = """\
echo {name} >/etc/hostname
mountpoint -q /sys/fs/cgroup || mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs none /lib/systemd/system/sysinit.target.wants  # what a host of an hour needs not
printf '[Unit]\\nRequires=sysinit.target host-sshd.service\\n' >/etc/systemd/system/host.target
printf '[Service]\\nExecStart=%s\\n' "$server" >/etc/systemd/system/host-sshd.service
exec env -i container=other PATH=$PATH unshare --pid --fork --mount --mount-proc \\
    /lib/systemd/systemd --unit=host.target --log-target=console
"""


def sh(*words: object) -> None:
    subprocess.run([str(word) for word in words], check=True, stdin=subprocess.DEVNULL)


def keygen(path: Path) -> None:
    sh("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path)


def image(kernel: str) -> Path:
    """The vmlinuz by its path, or of a version that 'channover kernel fetch' has fetched."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "channover/kernels" / kernel
    found = [Path(kernel)] if Path(kernel).is_file() else sorted(cache.glob("boot/vmlinuz-*"))
    if not found:
        sys.exit(f"boot_hosts: there is no kernel {kernel}: 'channover kernel fetch {kernel}', or --kernel PATH")
    return found[-1]


def tap(port: int, nic: int) -> str:
    return f"bh{port}-{nic}"


def boot(number: int, port: int, wanted: argparse.Namespace, folder: Path) -> subprocess.Popen[bytes]:
    name, mac = f"host{number}", f"52:54:00:b0:{number:02x}"
    script = folder / f"{name}.sh"
    init = WITH_SYSTEMD if wanted.systemd else WITHOUT_SYSTEMD
    script.write_text((IN_GUEST + init).format(folder=folder, name=name, mac=mac))
    command = [Path(sys.executable).with_name("virtme-run"), "--kimg", image(wanted.kernel), "--mods", "auto"]
    command += ["--memory", "256M", "--cpus", "1", "--name", name, "--script-sh", f"sh {script}", "--show-boot-console"]
    command += [] if wanted.kvm else ["--disable-kvm"]
    command += [word for place in ("/etc", "/usr", "/var", "/root") for word in ("--overlay-rwdir", place)]
    devices = ["-netdev", f"user,id=m,restrict=on,hostfwd=tcp:127.0.0.1:{port}-10.0.2.15:22"]
    devices += ["-device", f"virtio-net-pci,netdev=m,mac={mac}:00"]
    for nic in range(1, wanted.nics + 1):
        plain = "csum=off,gso=off,host_tso4=off,host_tso6=off,guest_csum=off,guest_tso4=off,guest_tso6=off"
        devices += ["-netdev", f"tap,id=n{nic},ifname={tap(port, nic)},script=no,downscript=no"]
        devices += [
            "-device",
            f"virtio-net-pci,netdev=n{nic},mac={mac}:{nic:02x},speed={wanted.rate},duplex=full,{plain}",
        ]
    with (folder / f"{name}.log").open("wb") as log:
        words = [str(word) for word in (*command, "--qemu-opts", *devices)]
        environment = os.environ | {"TMPDIR": str(folder)}  # virtme-ng leaves a file there
        return subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT)


def cable(one: str, other: str, rate: int) -> None:
    """What comes in by one tap goes out by the other, no faster than a wire of that rate (Mbit/s)."""
    for device in (one, other):
        sh("sysctl", "-q", "-w", f"net.ipv6.conf.{device}.disable_ipv6=1")
        sh("ip", "link", "set", device, "up")
    for device, peer in ((one, other), (other, one)):
        sh("tc", "qdisc", "add", "dev", device, "ingress")
        match = ["protocol", "all", "u32", "match", "u32", "0", "0", "action", "mirred", "egress", "redirect", "dev"]
        sh("tc", "filter", "add", "dev", device, "parent", "ffff:", *match, peer)
        shaper = f"tbf rate {rate}mbit burst 16k latency 20ms overhead 24 linklayer ethernet".split()
        sh("tc", "qdisc", "add", "dev", device, "root", *shaper)


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 20) as asked:
            return asked.recv(8).startswith(b"SSH-")
    except OSError:
        return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kernel", default="6.1", help="6.1 or 6.12 as channover fetched it, or a vmlinuz (6.1)")
    parser.add_argument("--hosts", type=int, default=2, help="how many, cabled in pairs (2)")
    parser.add_argument("--nics", type=int, default=2, help="test NICs each (2)")
    parser.add_argument("--rate", type=int, default=20, help="of a cable, in Mbit/s (20)")
    parser.add_argument("--port", type=int, default=2301, help="of the first host's sshd on 127.0.0.1 (2301)")
    parser.add_argument("--folder", type=Path, default=Path("boot-hosts"), help="for keys, known_hosts and logs")
    parser.add_argument(
        "--systemd", action="store_true", help="have systemd run their sshd, and what they are asked to"
    )
    parser.add_argument("--kvm", action="store_true", help="try KVM")
    wanted = parser.parse_args()
    if os.getpid() != 1:  # a PID namespace of its own: whatever ends this script ends the hosts
        again = [sys.executable, __file__, *sys.argv[1:]]
        os.execvp("unshare", ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *again])
    folder = wanted.folder.absolute()
    if folder.exists():
        sys.exit(f"boot_hosts: {folder} is there already: another run's, or name another with --folder")
    folder.mkdir(parents=True)
    ports = {number: wanted.port + number - 1 for number in range(1, wanted.hosts + 1)}
    try:
        keygen(folder / "client")
        known = []
        for number, port in ports.items():
            keygen(folder / f"host{number}.key")
            known.append(f"[127.0.0.1]:{port} {(folder / f'host{number}.key.pub').read_text()}")
        (folder / "known_hosts").write_text("".join(known))
        booting = {number: boot(number, port, wanted, folder) for number, port in ports.items()}
        deadline = time.monotonic() + 120 * len(ports)
        for number, process in booting.items():
            while not answers(ports[number]):
                if process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(
                        f"boot_hosts: host{number} did not boot: {(folder / f'host{number}.log').read_text()[-600:]}"
                    )
                time.sleep(0.5)
        for number in range(1, wanted.hosts, 2):
            for nic in range(1, wanted.nics + 1):
                cable(tap(ports[number], nic), tap(ports[number + 1], nic), wanted.rate)
        print(f"key {folder}/client, known hosts {folder}/known_hosts, user root, address 127.0.0.1")
        for number, port in ports.items():
            mac = f"52:54:00:b0:{number:02x}"
            nics = " ".join(f"{mac}:{nic:02x}" for nic in range(1, wanted.nics + 1))
            print(f"host{number}: port {port}, management NIC {mac}:00, test NICs {nics}")
        print(
            f"cables: host1's first NIC to host2's first, and so on, {wanted.rate} Mbit/s; Ctrl-C ends all", flush=True
        )
        while all(process.poll() is None for process in booting.values()):
            time.sleep(0.5)
        print("boot_hosts: a host has ended", file=sys.stderr)
    except KeyboardInterrupt:
        pass
    finally:
        sh("rm", "-rf", folder)


if __name__ == "__main__":
    main()
