"""A plan: changes of a host's network state as data, and the plan that undoes them.

An inverse restores *what was there before*, never a default: it is computed from a :class:`State` read from the host
before the change. The same operations (:mod:`channover.model.operations`) go through netlink in a namespace and as one
script over SSH, so that neither way can drift from the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from channover.model.operations.devices import AddressDelete, LinkAdd, LinkSet
from channover.model.operations.kernel import SysctlSet
from channover.model.operations.operation import Operation
from channover.model.state import State


@dataclass(frozen=True)
class Plan:
    """Operations in the order in which they are applied, and what they are for."""

    purpose: str
    operations: tuple[Operation, ...] = field(default=())

    @classmethod
    def of(cls, purpose: str, operations: Iterable[Operation]) -> Plan:
        """Return a plan of these operations."""
        return cls(purpose, tuple(operations))

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    def __add__(self, other: Plan) -> Plan:
        return Plan(f"{self.purpose}; {other.purpose}", self.operations + other.operations)

    @property
    def sysctl_keys(self) -> tuple[str, ...]:
        """The kernel parameters whose former values the inverse needs."""
        return tuple(operation.key for operation in self if isinstance(operation, SysctlSet))

    @property
    def script(self) -> str:
        """The plan as one POSIX shell script that stops at the first refused change."""
        return "\n".join(["set -e", *(operation.command for operation in self), ""])

    def inverse(self, before: State) -> Plan:
        """Return the plan that leads back from this plan's outcome to ``before``: last change first.

        Each change is undone against the state in which it was made, so a plan may change the same thing twice. What a
        plan does to a device of its own needs no undo but the device's end.
        """
        states = list(accumulate(self.operations, lambda state, operation: operation.after(state), initial=before))
        made = {operation.device for operation in self if isinstance(operation, LinkAdd)} - before.links.keys()
        undo = [
            step
            for operation, state in reversed(list(zip(self.operations, states, strict=False)))
            for step in operation.inverse(state)
            if not (isinstance(step, (LinkSet, AddressDelete)) and step.device in made)
        ]
        return Plan(f"undo: {self.purpose}", tuple(undo))
