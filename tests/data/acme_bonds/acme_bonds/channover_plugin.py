"""What Acme adds to channover."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from channover.extend import (
    Behaviour,
    Capability,
    Case,
    Found,
    HashPolicy,
    Host,
    Journal,
    Lab,
    LacpRate,
    LagStatus,
    Link,
    MemberStatus,
    NetnsTarget,
    Option,
    Topology,
    UsageError,
    behaviours,
    capabilities,
    cause,
    causes,
    drivers,
    targets,
)

behaviours.part("ACME", title="Acme's bonds", layer="2 data link")
behaviours.add(Behaviour("ACME-1", "the desk has four legs", source="Acme's specification, 4.2", needs=("floor",)))
behaviours.add(Behaviour("ACME-2", "the desk flies", source="Acme's specification, 4.3", needs=("wings",)))
behaviours.add(Behaviour("ACME-3", "a bond has an address", source="Acme's specification, 5", needs=("lag",)))
capabilities.add("floor", Capability("a floor", {"sh": "dash"}))
capabilities.add("wings", Capability("wings", {}, trial=lambda host: f"{host.name} has no wings: buy some"))


@cause("acme-dust", "A NIC is dusty.", shows="its bytes", remedy="wipe it")
def dust(case: Case) -> Iterator[Found]:
    """Find NICs that carried nothing at all."""
    return (Found(f"{host.name}'s {nic} is dusty") for host in case.hosts for nic in host.nics if not nic.carried)


causes.add(dust)


@dataclass
class AcmeLag:
    """One end of a LAG of Acme's, whose links after the first are spare."""

    host: Host
    device: str
    members: tuple[str, ...]
    address: str

    def status(self) -> LagStatus:
        """Say what there is: Acme speaks no LACP."""
        ports = tuple(MemberStatus(one, True, 1) for one in self.members)
        return LagStatus("acme", "layer2", "fast", 1, len(ports), 1, 1, "", ports, text="Acme's LAG")

    def wait_converged(self, timeout: float = 10.0) -> float:
        """Nothing is to be waited for."""
        return 0.0

    def close(self) -> None:
        """Take the address away."""
        self.host.run("ip", "address", "del", self.address, "dev", self.device)


@dataclass
class AcmeDriver:
    """Makes them."""

    name: str = "acme"
    needs: tuple[str, ...] = ("ip",)
    policies: frozenset[HashPolicy] = field(default=frozenset({HashPolicy.LAYER2}))
    checksums: bool = False

    def create(
        self,
        host: Host,
        device: str,
        members: Sequence[str],
        address: str | None = None,
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> AcmeLag:
        """Give the first link the address."""
        assert address is not None
        host.run("ip", "address", "add", address, "dev", members[0])
        host.run("ip", "link", "set", members[0], "up")
        return AcmeLag(host, members[0], tuple(members), address)

    def create_switch(
        self,
        host: Host,
        members: Sequence[str],
        ports: Sequence[str],
        policy: HashPolicy = HashPolicy.LAYER2,
        rate: LacpRate = LacpRate.FAST,
    ) -> AcmeLag:
        """Acme sells no switches."""
        raise UsageError("the LAG driver acme makes no switches")


@dataclass
class AcmeTarget:
    """Labs of Acme's: namespaces, in a pod of a number."""

    pod: str
    name: str = "acme"
    inside: NetnsTarget = field(default_factory=NetnsTarget)

    @property
    def remarks(self) -> list[str]:
        """What is to be said at the end of the run."""
        return self.inside.remarks

    def unmet(self, topology: Topology) -> str | None:
        """Pod 13 has no labs."""
        return "pod 13 is closed: take another with --acme-pod" if self.pod == "13" else self.inside.unmet(topology)

    def lab(self, topology: Topology, link: Link, journal: Journal) -> AbstractContextManager[Lab]:
        """Bring a topology up."""
        return self.inside.lab(topology, link, journal)

    def close(self) -> None:
        """Give all back."""
        self.inside.close()


def make(values: Mapping[str, str | None]) -> AcmeTarget:
    """Make the target of its options."""
    pod = values["--acme-pod"] or ""
    if not pod.isdigit():
        raise UsageError(f"--acme-pod: '{pod}' is no number")
    return AcmeTarget(pod)


drivers.add("acme", AcmeDriver())
targets.add("acme", make, options=[Option("--acme-pod", "the pod of the labs", "NUMBER", "1")], link_rate="50mbit")
