"""Parameters of the kernel, and tables of its packet filter (``nft(8)``)."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace

from channover.model.operations.operation import Operation
from channover.model.state import State


@dataclass(frozen=True)
class SysctlSet:
    """Set a kernel parameter, named by its path below ``/proc/sys`` (``net/mptcp/enabled``)."""

    key: str
    value: str

    @property
    def path(self) -> str:
        """Its file."""
        return f"/proc/sys/{self.key}"

    @property
    def command(self) -> str:
        return f"printf %s {shlex.quote(self.value)} > {self.path}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        value = before.sysctls.get(self.key)
        return () if value is None or value == self.value else (SysctlSet(self.key, value),)

    def after(self, before: State) -> State:
        return replace(before, sysctls={**before.sysctls, self.key: self.value})


@dataclass(frozen=True)
class TableAdd:
    """Load an nftables table of our own; ``text`` is what stands between its braces. Other tables stay untouched."""

    name: str
    text: str

    @property
    def ruleset(self) -> str:
        """The table as ``nft -f`` takes it."""
        return f"table inet {self.name} {{\n{self.text}\n}}\n"

    @property
    def command(self) -> str:
        return f"nft -f - <<'END'\n{self.ruleset}END"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return (TableDelete(self.name),)

    def after(self, before: State) -> State:
        return before


@dataclass(frozen=True)
class TableDelete:
    """Delete an nftables table of our own."""

    name: str

    @property
    def command(self) -> str:
        return f"nft delete table inet {self.name}"

    def inverse(self, before: State) -> tuple[Operation, ...]:
        return ()

    def after(self, before: State) -> State:
        return before
