"""The MPTCP path manager's limits and endpoints (``ip-mptcp(8)``)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from channover.model.operations.operation import Operation
from channover.model.state import ENDPOINT_FLAGS, Endpoint, Limits, State

CHANGEABLE = ("backup", "fullmesh")
"""The flags of an MPTCP endpoint that can be changed while it stands (``ip-mptcp(8)``)."""


@dataclass(frozen=True)
class LimitsSet:
    """Set the MPTCP path manager's limits: extra subflows (0 to 8) and accepted ADD_ADDRs (0 to 8)."""

    subflows: int
    add_addr_accepted: int

    @property
    def command(self) -> str:
        return f"ip mptcp limits set subflows {self.subflows} add_addr_accepted {self.add_addr_accepted}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        wanted = Limits(self.subflows, self.add_addr_accepted)
        if before.limits is None or before.limits == wanted:
            return ()
        return (LimitsSet(before.limits.subflows, before.limits.add_addr_accepted),)

    def after(self, before: State) -> State:
        return replace(before, limits=Limits(self.subflows, self.add_addr_accepted))


@dataclass(frozen=True)
class EndpointAdd:
    """Add an MPTCP endpoint; ``flags`` from signal, subflow, backup, fullmesh; ``device`` binds its subflows to a NIC.

    ``port`` is one that the host listens on for this endpoint alone (with signal only).
    """

    id: int
    address: str
    flags: tuple[str, ...]
    device: str | None = None
    port: int | None = None

    @classmethod
    def of(cls, known: Endpoint) -> EndpointAdd:
        """Return the operation that makes this endpoint."""
        return cls(known.id, known.address, known.flags, known.device, known.port)

    @property
    def command(self) -> str:
        port = f" port {self.port}" if self.port else ""
        device = f" dev {self.device}" if self.device else ""
        return f"ip mptcp endpoint add {self.address} id {self.id}{port}{device} {' '.join(self.flags)}".rstrip()

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return () if self.id in before.endpoints else (EndpointDelete(self.id),)

    def after(self, before: State) -> State:
        endpoint = Endpoint(self.id, self.address, self.flags, self.device, self.port)
        return replace(before, endpoints={**before.endpoints, self.id: endpoint})


@dataclass(frozen=True)
class EndpointDelete:
    """Delete an MPTCP endpoint by its id; the kernel closes the subflows that it made."""

    id: int

    @property
    def command(self) -> str:
        return f"ip mptcp endpoint delete id {self.id}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        known: Endpoint | None = before.endpoints.get(self.id)
        if known is None or not known.address or "implicit" in known.flags:  # an implicit one is the kernel's to make
            return ()
        return (EndpointAdd.of(known),)

    def after(self, before: State) -> State:
        rest = {number: known for number, known in before.endpoints.items() if number != self.id}
        return replace(before, endpoints=rest)


@dataclass(frozen=True)
class EndpointChange:
    """Make an MPTCP endpoint a backup, full mesh, both or neither; its subflows' peers are told (RFC 8684, 3.3.8)."""

    id: int
    flags: tuple[str, ...]

    @property
    def command(self) -> str:
        words = " ".join(flag if flag in self.flags else f"no{flag}" for flag in CHANGEABLE)
        return f"ip mptcp endpoint change id {self.id} {words}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        known: Endpoint | None = before.endpoints.get(self.id)
        flags = tuple(flag for flag in known.flags if flag in CHANGEABLE) if known else ()
        return () if known is None or set(flags) == set(self.flags) else (EndpointChange(self.id, flags),)

    def after(self, before: State) -> State:
        known: Endpoint | None = before.endpoints.get(self.id)
        if known is None:
            return before
        kept = {flag for flag in known.flags if flag not in CHANGEABLE} | set(self.flags)
        changed = replace(known, flags=tuple(flag for flag in ENDPOINT_FLAGS if flag in kept))
        return replace(before, endpoints={**before.endpoints, self.id: changed})
