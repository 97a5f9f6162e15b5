"""What every change of a host is."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from channover.model.state import State


@runtime_checkable
class Operation(Protocol):
    """One change. ``command`` is what a person would type, ``inverse`` is what undoes it, ``after`` is what it leads to."""

    @property
    def command(self) -> str: ...

    def inverse(self, before: State) -> tuple[Operation, ...]: ...

    def after(self, before: State) -> State: ...
