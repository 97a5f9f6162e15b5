"""Micro-VMs: booted, patched, pulled, panicked, and gone with whoever booted them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.host import until
from channover.hosts.vm import kernel_images as kernels
from channover.hosts.vm import vm as machine
from channover.hosts.vm.pool import PatchCable, VmPool
from channover.hosts.vm.spec import VmSpec
from channover.model.topology import Cable, Port

pytestmark = [pytest.mark.lab, pytest.mark.vm]

CABLE = Cable(Port("left", "a"), Port("right", "a"))
PLUGINS = Path(__file__).parents[2] / "plugins"
KILLED = """
import sys
from channover.hosts.vm import kernel_images as kernels, vm as machine
from channover.hosts.vm.pool import VmSpec, VmPool
with VmPool(kernels.fetched()[0], "tcg") as vm_pool:
    vm_pool.boot([VmSpec(name) for name in sys.argv[1:]])
"""


@pytest.fixture(scope="module")
def vm_pool() -> Iterator[VmPool]:
    with VmPool(kernels.fetched()[0]) as made:
        made.boot([VmSpec("left", nics=2, speed=20_000_000), VmSpec("right", nics=2)])
        yield made


def ssh(
    vm_pool: VmPool,
    name: str,
    command: str,
    key: Path | None = None,
    known_hosts: Path | None = None,
    port: int | None = None,
) -> subprocess.CompletedProcess[str]:
    options = ("BatchMode=yes", "StrictHostKeyChecking=yes", f"UserKnownHostsFile={known_hosts or vm_pool.known_hosts}")
    words = ["ssh", "-F", "none", "-i", str(key or vm_pool.key), "-p", str(port or vm_pool.machines[name].ssh_port)]
    words += [word for option in options for word in ("-o", option)] + ["root@127.0.0.1", command]
    return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL)


def said(vm_pool: VmPool, name: str, command: str) -> str:
    done = ssh(vm_pool, name, command)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{vm_pool.machines[name].tail()}"
    return done.stdout.strip()


def carrier(vm_pool: VmPool, name: str) -> str:
    return said(vm_pool, name, "cat /sys/class/net/eth1/carrier")


def emulators(name: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"qemu" in words[0] and name.encode() in words:
            found.append(path.parent.name)
    return found


def test_a_machine_is_what_was_asked_for(vm_pool: VmPool) -> None:
    assert said(vm_pool, "left", "hostname; uname -r").split() == ["left", vm_pool.kernel.release]
    macs = said(vm_pool, "left", "cd /sys/class/net; for n in mgmt0 eth1 eth2; do cat $n/address; done; ls").split()
    left = vm_pool.machines["left"]
    assert macs[:3] == [left.management.mac, *(nic.mac for nic in left.nics)]
    assert sorted(macs[3:]) == ["eth1", "eth2", "lo", "mgmt0"]
    # Test NICs are down and bare, management is up and leads nowhere.
    assert said(vm_pool, "left", "ip -br address show eth1").split()[1:] == ["DOWN"]
    assert said(vm_pool, "left", "ip route show default") == ""


def test_a_guest_changes_nothing_of_this_machine(vm_pool: VmPool) -> None:
    said(
        vm_pool,
        "left",
        "for d in /etc /usr /var/tmp /root /tmp /run; do echo x >$d/channover-guest || exit 1; done; sync",
    )
    assert not any(
        Path(folder, "channover-guest").exists() for folder in ("/etc", "/usr", "/var/tmp", "/root", "/tmp", "/run")
    )


def test_a_guest_has_its_kernel_s_modules(vm_pool: VmPool) -> None:
    said(vm_pool, "left", "test ! -e /sys/class/net/bond0 && ip link add bond0 type bond && ip link delete bond0")
    said(vm_pool, "left", "ls /dev/net/tun && tc qdisc add dev lo root netem delay 1ms && tc qdisc delete dev lo root")
    said(vm_pool, "left", "nft add table inet try && nft delete table inet try && ss -M && sysctl -n net.mptcp.enabled")


def test_only_the_testbed_s_keys_count(vm_pool: VmPool, tmp_path: Path) -> None:
    key = tmp_path / "key"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    assert "Permission denied" in ssh(vm_pool, "right", "true", key=key).stderr
    # Each machine has a host key of its own: left's is not right's.
    left, right = (f"[127.0.0.1]:{vm_pool.machines[name].ssh_port}" for name in ("left", "right"))
    lines = dict(line.split(" ", 1) for line in vm_pool.known_hosts.read_text().splitlines())
    wrong = tmp_path / "known_hosts"
    wrong.write_text(f"{right} {lines[left]}\n")
    assert "Host key verification failed" in ssh(vm_pool, "right", "true", known_hosts=wrong).stderr


def address(vm_pool: VmPool, name: str, device: str, last: int) -> None:
    words = (
        f"for n in eth1 eth2; do ip address flush dev $n; ip link set $n up; done; ip address add 192.0.2.{last}/24 dev"
    )
    said(vm_pool, name, f"{words} {device}")


PING = "ping -c 3 -i 0.2 -W 10 192.0.2.2"


def test_a_cable_carries_is_pulled_and_plugged_in_again(vm_pool: VmPool) -> None:
    cabling = vm_pool.patch({CABLE: PatchCable("left", 0, "right", 1, 20_000_000)})
    address(vm_pool, "left", "eth1", 1)
    address(vm_pool, "right", "eth2", 2)
    assert said(vm_pool, "left", f"{PING} >&2 && cat /sys/class/net/eth1/speed") == "20"
    assert carrier(vm_pool, "right") == "0"  # eth1 there has no cable
    cabling.cut(CABLE)
    assert carrier(vm_pool, "left") == "0"
    assert ssh(vm_pool, "left", "ping -c 1 -W 1 192.0.2.2").returncode != 0
    cabling.restore(CABLE)
    assert carrier(vm_pool, "left") == "1"
    said(vm_pool, "left", PING)
    cabling.mute(CABLE, CABLE.b)
    assert carrier(vm_pool, "left") == "1"
    assert ssh(vm_pool, "left", "ping -c 1 -W 1 192.0.2.2").returncode != 0
    cabling.restore(CABLE)
    said(vm_pool, "left", PING)


@pytest.mark.slow
def test_cables_are_laid_anew(vm_pool: VmPool) -> None:
    vm_pool.patch({CABLE: PatchCable("left", 0, "right", 1, 20_000_000)})
    vm_pool.patch({CABLE: PatchCable("left", 0, "right", 0, 20_000_000)})
    address(vm_pool, "left", "eth1", 1)
    address(vm_pool, "right", "eth2", 2)
    assert carrier(vm_pool, "right") == "1"
    assert ssh(vm_pool, "left", "ping -c 1 -W 1 192.0.2.2").returncode != 0  # what was a cable is one no more
    address(vm_pool, "right", "eth1", 2)
    said(vm_pool, "left", PING)


def test_a_frame_is_counted_by_itself(vm_pool: VmPool) -> None:
    features = said(vm_pool, "left", "ethtool -k eth1")
    for name in ("tcp-segmentation-offload", "generic-receive-offload-hw", "tx-checksumming"):
        assert f"{name}: on" not in features


def test_a_cable_to_nowhere_is_refused(vm_pool: VmPool) -> None:
    with pytest.raises(TestbedError, match="no cable can end in NIC 2 of right"):
        vm_pool.patch({CABLE: PatchCable("left", 0, "right", 2, 1_000_000)})
    with pytest.raises(TestbedError, match="NIC 0 of left has more than one cable"):
        vm_pool.patch({CABLE: PatchCable("left", 0, "left", 0, 1_000_000)})


@pytest.mark.slow
def test_a_panic_is_a_dead_machine_and_a_reboot_cures_it(vm_pool: VmPool) -> None:
    right = vm_pool.machines["right"]
    vm_pool.patch({CABLE: PatchCable("left", 0, "right", 0, 20_000_000)})
    assert right.alive()
    crash = "nohup sh -c 'sleep 0.3; echo c >/proc/sysrq-trigger' >/dev/null 2>&1 &"
    ssh(vm_pool, "right", f"echo 1 >/proc/sys/kernel/sysrq; {crash}")
    until(lambda: not right.alive(), "the panic", 30)
    assert "Kernel panic" in str(right.failure())
    assert "Kernel panic" in right.console.read_text(errors="replace")
    right.reboot(120)
    assert right.alive()
    vm_pool.record_hosts()
    assert (
        said(vm_pool, "right", "ip link set eth1 up; cat /sys/class/net/eth1/carrier") == "1"
    )  # its cable is still there
    assert vm_pool.machines["left"].alive()


@pytest.mark.slow
def test_a_guest_may_reboot_itself(vm_pool: VmPool) -> None:
    mark = "channover: right is up"
    before = vm_pool.machines["right"].said().count(mark)
    ssh(vm_pool, "right", "touch /tmp/before; nohup sh -c 'sleep 0.3; reboot' >/dev/null 2>&1 &")
    until(lambda: vm_pool.machines["right"].said().count(mark) > before, "the guest's reboot", 120, 0.1)
    vm_pool.machines["right"].wait(time.monotonic() + 60)  # its console speaks before its sshd takes connections
    assert said(vm_pool, "right", "ls /tmp") == ""


def test_a_port_that_is_taken_is_not_insisted_on(vm_pool: VmPool, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        free = machine._free_port
        offers = iter([taken])
        monkeypatch.setattr(machine, "_free_port", lambda: next(offers, None) or free())
        vm_pool.machines["right"].ssh_ports = []
        vm_pool.machines["right"].reboot(120)
        vm_pool.record_hosts()
    assert next(offers, None) is None
    assert vm_pool.machines["right"].ssh_port != taken
    assert said(vm_pool, "right", "hostname") == "right"


def test_nothing_outlives_a_killed_controller(tmp_path: Path) -> None:
    name = f"doomed-{os.getpid()}"
    environment = {**os.environ, "PYTHONPATH": str(PLUGINS)}
    controller = subprocess.Popen([sys.executable, "-c", KILLED, name], env=environment, cwd=tmp_path)
    try:
        until(lambda: emulators(name), "an emulator", 60, 0.05)
    finally:
        controller.send_signal(signal.SIGKILL)
        controller.wait()
    killed = time.monotonic()
    until(lambda: not emulators(name), "the end of the emulator", 5, 0.05)
    assert time.monotonic() - killed < 5
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_machine_that_cannot_boot_says_why(vm_pool: VmPool) -> None:
    with pytest.raises(TestbedError, match=r"tiny: .*(its console|emulator)"):
        vm_pool.boot([VmSpec("tiny", nics=0, memory=48)], timeout=8)
    vm_pool.machines.pop("tiny").stop()
    assert vm_pool.machines["left"].alive()


def test_namespaces_of_a_machine_are_hosts_of_their_own(vm_pool: VmPool) -> None:
    (inner,) = vm_pool.boot([VmSpec("inner", nics=2, spaces=2)])
    one, other = inner.hosts

    def asked(port: int, command: str) -> str:
        done = ssh(vm_pool, "inner", command, port=port)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}\n{inner.tail()}"
        return done.stdout.strip()

    vm_pool.patch({CABLE: PatchCable("inner", one.first, "inner", other.first, 20_000_000)})
    for host in inner.hosts:
        seen = asked(
            host.ssh_port,
            "hostname; ls -A /run/channover /sys/fs/cgroup; cat /sys/class/net/eth1/address; ls /sys/class/net",
        )
        assert seen.split() == [host.name, "/run/channover:", "/sys/fs/cgroup:", host.nics[0].mac, "eth1", "lo"]
        asked(
            host.ssh_port,
            f"ip address add 192.0.2.{1 + host.first}/24 dev eth1; ip link set eth1 up; touch /run/channover/mine",
        )
    asked(one.ssh_port, PING)
    # Each sees its own programs alone: a guardian ends those of a run by their token, which is the same on all of its hosts.
    asked(one.ssh_port, "sleep 1234 >/dev/null 2>&1 &")
    seen = asked(other.ssh_port, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
    assert "sleep 1000000" in seen and "sleep 1234" not in seen
    vm_pool.retire(["inner"])


def test_machines_that_are_not_needed_are_switched_off(
    vm_pool: VmPool,
) -> None:  # the last test: one machine is gone then
    vm_pool.retire(["right"])
    assert list(vm_pool.machines) == ["left"]
    assert said(vm_pool, "left", "hostname") == "left"
