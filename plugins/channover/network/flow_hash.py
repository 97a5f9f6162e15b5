"""What the hash of a LAG's driver makes of a flow: pure functions of addresses, protocol and ports.

Sources: ``bond_eth_hash`` and ``bond_ip_hash`` in the kernel's ``drivers/net/bonding/bond_main.c`` (Linux 6.1 and 6.12 alike);
``miniflow_hash_5tuple`` in Open vSwitch's ``lib/flow.c``, ``hash_2words`` and ``hash_finish`` in ``lib/hash.h`` (MurmurHash3).
The drivers read a packet's bytes as words of the machine: what is computed here is so on little-endian ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

IPV4, IPV6 = 0x0800, 0x86DD
UDP = 17
TCP = 6
_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Conversation:
    """What a transmit hash may look at in a flow's packets. ``protocol`` is IP's number, a MAC address empty if unknown."""

    source: str
    target: str
    source_port: int
    target_port: int
    protocol: int = UDP
    source_mac: str = ""
    target_mac: str = ""

    @property
    def addresses(self) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]:
        """Both IP addresses. Raises ValueError where one is none."""
        return ip_address(self.source), ip_address(self.target)

    @property
    def version(self) -> int:
        """The version of IP."""
        return self.addresses[0].version

    @property
    def ethertype(self) -> int:
        """What the Ethernet frame says of the packet in it."""
        return IPV4 if self.version == 4 else IPV6

    @property
    def _ports(self) -> bytes:
        return self.source_port.to_bytes(2, "big") + self.target_port.to_bytes(2, "big")


def _words(packed: bytes) -> list[int]:
    return [int.from_bytes(packed[at : at + 4], "little") for at in range(0, len(packed), 4)]


def _xor(words: Sequence[int]) -> int:
    found = 0
    for word in words:
        found ^= word
    return found


# The kernel's bonding driver: the member is the hash modulo the number of ports, in the driver's order.


def layer2(flow: Conversation) -> int:
    """Return the kernel's hash of the policy layer2: MAC addresses and ethertype, so IPv4 and IPv6 may part.

    Raises ValueError where the MAC addresses are not known.
    """
    source, target = (int(mac.rpartition(":")[2], 16) for mac in (flow.source_mac, flow.target_mac))
    return target ^ source ^ flow.ethertype


def _with_addresses(value: int, flow: Conversation) -> int:
    for address in flow.addresses:
        value ^= _xor(_words(address.packed))
    value ^= value >> 16
    return value ^ value >> 8


def layer23(flow: Conversation) -> int:
    """Return the kernel's hash of the policy layer2+3: that of layer2, and the IP addresses. Raises ValueError as layer2."""
    return _with_addresses(layer2(flow), flow)


def layer34(flow: Conversation) -> int:
    """Return the kernel's hash of the policy layer3+4: IP addresses and ports, its lowest bit left out."""
    return _with_addresses(_words(flow._ports)[0], flow) >> 1


# Open vSwitch's balance-tcp: the hash bucket is the lowest eight bits.


def _rotated(word: int, bits: int) -> int:
    return (word << bits | word >> 32 - bits) & _WORD


def _added(value: int, word: int) -> int:
    word = _rotated(word * 0xCC9E2D51 & _WORD, 15) * 0x1B873593 & _WORD
    return (_rotated(value ^ word, 13) * 5 + 0xE6546B64) & _WORD


def _finished(value: int, last: int) -> int:
    value ^= last
    value = (value ^ value >> 16) * 0x85EBCA6B & _WORD
    value = (value ^ value >> 13) * 0xC2B2AE35 & _WORD
    return value ^ value >> 16


def dp_hash(flow: Conversation, basis: int = 0) -> int:
    """Return the hash that Open vSwitch's userspace datapath gives a flow of a bond with that ``bond-hash-basis``.

    So it is in a build without the processor's CRC32 instructions (SSE 4.2), such as Debian's and Ubuntu's of amd64; one that
    is compiled for them hashes otherwise.
    """
    value = 0
    for word in [word for address in flow.addresses for word in _words(address.packed)]:
        value = _added(value, word)
    value = _added(_added(value, flow.protocol), _words(flow._ports)[0])
    return _finished(_added(_added(_finished(value, 42), 0), basis), 8)
