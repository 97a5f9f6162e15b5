"""The switches of others that a lab's NICs lead to and that may be read: each is asked once before it counts.

One that cannot be read is no error: a line says so, and verdicts rest on the hosts.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from channover.errors import ChannoverError
from channover.hosts.snmp.credentials import credentials
from channover.hosts.snmp.session import Session
from channover.hosts.snmp.switch import Switch
from channover.model.topology import Port
from channover.targets.inventory.schema import LabEntry, SwitchEntry


@dataclass
class SwitchReaders:
    """What reads the switches of one lab; ``say`` is told in a line of one that cannot be read."""

    lab: LabEntry
    say: Callable[[str], None]
    _asked: dict[str, Switch | None] = field(default_factory=dict)

    def beside(self, nics: Collection[Port]) -> tuple[Switch, ...]:
        """Return the switches that NICs lead to, by cables and over other switches, as far as they can be read."""
        names = [name for name in self._reached(nics) if self.lab.switches[name].snmp is not None]
        if new := [name for name in names if name not in self._asked]:
            with ThreadPoolExecutor(len(new)) as pool:
                self._asked |= zip(new, pool.map(self._made, new), strict=True)
        return tuple(switch for name in names if (switch := self._asked[name]) is not None)

    def _reached(self, nics: Collection[Port]) -> list[str]:
        ports = [cable.ports for cable in self.lab.cables]
        found: set[str] = set()
        while True:
            more = {
                there.node
                for pair in ports
                for here, there in (pair, pair[::-1])
                if there.node in self.lab.switches and (here in nics or here.node in found)
            }
            if more <= found:
                return [name for name in self.lab.switches if name in found]
            found |= more

    def _made(self, name: str) -> Switch | None:
        entry = self.lab.switches[name]
        try:
            switch = _switch(name, entry)
            for missing in switch.read().missing:
                self.say(f"switch {name} has no port {missing}: its own names are in 'snmpwalk … IF-MIB::ifName'")
        except ChannoverError as error:
            self.say(f"switch {name} is not read, and verdicts rest on the hosts: {error}")
            return None
        return switch


def _switch(name: str, entry: SwitchEntry) -> Switch:
    assert entry.snmp is not None
    return Switch(name, Session(str(entry.snmp.address), entry.snmp.port, credentials(entry.snmp.config)), entry.ports)
