"""What keeps a run's servers from everybody but the lab: an nftables table of the run's own on each host.

A server that is bound to an address answers whoever reaches that address, by whichever NIC; and one that takes the joins of
further subflows has to listen on every address (MP_JOIN, RFC 8684, 3.2). So each host refuses, on every interface but the
lab's and the loopback device: what is meant for an address of the lab, and the ports of the lab's servers. It is a change as
any other: in a plan, with its inverse, and the guardian takes it away with the lease. What is the owner's goes on: addresses of
the host itself that lie in the lab's ranges, and replies to its own clients, whatever port they have. Sources: ``nft(8)``;
RFC 1122, 3.3.4.2, for hosts that answer on any interface for any of their addresses.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import ip_address, ip_interface, ip_network

from channover.errors import TestbedError
from channover.hosts.host import Host
from channover.model.inner_network import inner_network
from channover.model.operations.kernel import TableAdd
from channover.model.plan import Plan
from channover.model.topology import Port
from channover.network import bonding, lag, openvpn
from channover.network import ssh_tunnel as ssh
from channover.network.programs import file_servers as files
from channover.network.programs import iperf
from channover.network.programs.applications import sip

NETWORKS = {
    "ip": ("10.93.93.0/30", "10.94.94.0/30", "10.10.0.0/24", "10.101.0.0/16", "10.92.0.0/16"),
    "ip6": ("fd00:92::/32", "fd00:93::/32", "fd00:94::/32"),
}
"""Where the addresses lie that a run gives to test NICs and LAGs (:func:`channover.hosts.lab.subnet`), by nft's family."""
INSIDE = (
    *(network for networks in NETWORKS.values() for network in networks),
    *(str(ip_interface(one).network) for one, _ in ssh.ADDRESSES.values()),
    *(str(inner_network(*pair)) for pair in openvpn.ADDRESSES.values()),
)
"""These, and where the addresses lie that a run gives to its tunnels."""
MADE = (lag.DEVICE, *lag.MORE, bonding.BRIDGE, openvpn.DEVICE, "tun0", "tun1", "tun2", "tun3")
"""Devices that a run makes, behind which the lab lies as well."""


def ports() -> tuple[str, ...]:
    """Return the ports (TCP and UDP) of the lab's servers, in nft's words."""
    single = sorted({openvpn.PORT, ssh.PORT, *files.PORTS.values(), sip.PORT, sip.TLS_PORT})
    return (*map(str, single), f"{iperf.PORTS[0]}-{iperf.PORTS[-1]}")


def table(
    run: str,
    nics: Collection[str],
    others: Collection[str] = (),
    taken: Collection[int] = (),
    addresses: Collection[str] = (),
    beyond: Mapping[str, Collection[str]] = {},
) -> TableAdd:
    """Return the table of a run for a host with these test NICs (devices).

    ``others`` are the devices that the host had before: none of them is the lab's, whatever its name. ``taken`` are the TCP
    and UDP ports on which programs of the host's owner listen: they go on, and a server of the run's cannot have them.
    ``addresses`` are those of the other devices: what is meant for them goes on, where they lie in the lab's ranges too.
    ``beyond`` are test NICs that routers lead to, each with the addresses at the far end that are the lab's.
    """
    near = [device for device in nics if device not in beyond]
    inside = ", ".join(f'"{device}"' for device in ("lo", *near, *(made for made in MADE if made not in others)))
    kept = ", ".join(word for word in ports() if not word.isdigit() or int(word) not in taken)
    own = [str(port) for port in sorted(taken) if port in iperf.PORTS]
    spare = (
        [f"    tcp dport {{ {', '.join(own)} }} accept", f"    udp dport {{ {', '.join(own)} }} accept"] if own else []
    )
    text = [
        "  chain input {",
        "    type filter hook input priority -10; policy accept;",
        f"    iifname {{ {inside} }} accept",
        *(_from(device, far) for device, far in beyond.items()),
        *(f"    {_ours(family, addresses)} reject" for family in NETWORKS),
        *spare,
        f"    tcp flags & (syn | ack) == syn tcp dport {{ {kept} }} reject with tcp reset",
        f"    udp dport {{ {kept} }} reject",
        "  }",
    ]
    return TableAdd(f"channover_{re.sub(r'[^A-Za-z0-9]', '_', run)}", "\n".join(text))


def _from(device: str, addresses: Collection[str]) -> str:
    """Return nft's rule that lets some senders in by a device."""
    family = "ip6" if any(":" in one for one in addresses) else "ip"
    return f'    iifname "{device}" {family} saddr {{ {", ".join(sorted(addresses))} }} accept'


def _ours(family: str, addresses: Collection[str]) -> str:
    """Return nft's match of what is meant for the lab's networks, but for the owner's addresses there."""
    ranges = [ip_network(network) for network in NETWORKS[family]]
    theirs = sorted(each for each in set(addresses) if any(ip_address(each) in network for network in ranges))
    but = f"{family} daddr != {{ {', '.join(theirs)} }} " if theirs else ""
    return f"{but}{family} daddr {{ {', '.join(NETWORKS[family])} }}"


def gate(
    host: Host, run: str, nics: Collection[str], others: Collection[str], beyond: Mapping[Port, Collection[str]] = {}
) -> Plan:
    """Return the plan that shuts a host's servers off from everybody but the lab. Raises TestbedError where there is no nft.

    ``beyond`` are as :func:`table` has them, by the host's port.
    """
    found = host.run("sh", "-c", "command -v nft >/dev/null && ss -Hltun", check=False, quiet=True)
    if found.returncode != 0:
        raise TestbedError(
            f"{host.name} has no nft, without which the servers of a run would be open to whoever reaches the host: "
            "apt-get install nftables"
        )
    taken = {int(port) for port in re.findall(r"^\S+\s+\S+\s+\d+\s+\d+\s+\S+:(\d+)\s", found.stdout, re.MULTILINE)}
    links = host.state().links
    addresses = [ip_interface(a.split()[0]).ip for device in others if device in links for a in links[device].addresses]
    far = {host.nic(port.nic).device: theirs for port, theirs in beyond.items()}
    made = table(run, nics, others, taken, list(map(str, addresses)), far)
    return Plan("refuse the run's servers to others", (made,))
