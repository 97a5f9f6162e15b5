"""Drivers of NICs that are not what they look like."""

from __future__ import annotations

VIRTUAL = frozenset(
    (
        "virtio_net", "veth", "tun", "vmxnet3", "hv_netvsc", "xen_netfront", "vif", "ena", "gve", "ibmveth", "netdevsim",
        "macvlan", "thunderbolt-net",
    )
)  # fmt: skip
"""Of NICs that a hypervisor or a kernel makes up, on a bus of its own or on one that it makes up as well: they have no cable,
and the speed that they tell is what they were told, or made up."""
