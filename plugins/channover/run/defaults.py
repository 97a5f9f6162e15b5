"""What a run is where no option says otherwise, and the names that options know.

Every run of pytest reads this, also one without a test of channover's: it imports nothing.
"""

from __future__ import annotations

TARGETS = ("netns", "physical", "vm")
OWNERS = {
    "--inventory": "physical",
    "--lab": "physical",
    "--lease-wait": "physical",
    "--ask-sudo-password": "physical",
    "--kernel": "vm",
}
"""The target that each of these options is for."""
KERNEL = "6.1"
"""The Debian kernel that virtual machines boot where nothing else is asked for."""
LINK_RATES = {"netns": "100mbit", "vm": "10mbit"}
"""What cables carry where nothing else is asked for: emulated processors cannot be a wire of 100 Mbit/s."""
MACHINES = 4
"""How many micro-VMs one of these rates is for; the cables of more are slower in proportion: they share the processors."""
FAMILIES = ("4", "6")
"""Versions of IP that labs can have, the usual one first."""
LAG_DRIVERS = ("auto", "bonding", "openvswitch")
PACKET_HEAD = 96
"""Bytes of each packet that are kept unless told otherwise: Ethernet, IPv6 or IPv4, and TCP with all its options."""
PCAP = ("never", "on-failure", "always")
