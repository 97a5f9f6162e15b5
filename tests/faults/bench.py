"""What a fault is done with: the lab, its patch panel, and the wires in it, whose every frame passes rules of one's own."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from channover.hosts.host import Completed, Host, Process, finished
from channover.hosts.lab import Lab
from channover.hosts.netns.process import NamespaceProcess
from channover.model.plan import Plan
from channover.model.topology import Cable

HERE = Path(__file__).parent
Way = Literal["right", "left"]
"""Towards which end a frame travels: ``right`` is the server's side, or the second switch."""
BOTH: tuple[Way, Way] = ("right", "left")


class NotInForce(Exception):
    """A fault that was done and does not show: the row is void."""


def require(shown: object, words: str) -> str:
    """Return the words where something was shown. Raises NotInForce."""
    if not shown:
        raise NotInForce(words)
    return words


@dataclass
class Bench:
    """A lab under a fault."""

    lab: Lab
    asking: Mapping[str, Host] = field(default_factory=dict)
    """The hosts as the test has them: a plan that is applied there is what the test asked for."""
    lags: list[Any] = field(default_factory=list)
    """Ends of LAGs as their driver made them, in the order in which they were made."""
    _wired: set[int] = field(default_factory=set)

    @property
    def left(self) -> Host:
        """The end that connects, or the first switch where there are two."""
        return self.lab.hosts[self._ends[0]]

    @property
    def right(self) -> Host:
        """The end that listens, or the second switch where there are two."""
        return self.lab.hosts[self._ends[1]]

    @property
    def _ends(self) -> tuple[str, str]:
        switches = self.lab.topology.switches
        if len(switches) == 2:
            return switches[0].name, switches[1].name
        return self.lab.topology.client, self.lab.topology.server

    @property
    def cables(self) -> list[Cable]:
        """The cables between both ends."""
        return list(self.lab.topology.between(*self._ends))

    def cable(self, label: str) -> Cable:
        """Return a cable between both ends by the label of its NICs."""
        return next(one for one in self.cables if one.a.nic == label)

    def device(self, label: str) -> str:
        """Return the device of a NIC, which is the same at both ends."""
        return self.left.nic(label).device

    def bond(self, host: Host) -> Any:
        """Return a host's end of the LAG."""
        return next(one for one in self.lags if one.host.name == host.name)

    def change(self, host: Host, *operations: Any) -> None:
        """Change a host's network state, as somebody else would: nobody asked for it."""
        host.apply(Plan("a fault", operations))

    def ask(self, host: Host, *operations: Any) -> None:
        """Change a host's network state as if the test had asked for it: nothing is amiss but what comes of it."""
        self.asking[host.name].apply(Plan("a fault", operations))

    # The panel.

    def panel(self, *argv: str, input: str = "", check: bool = True) -> Completed:
        """Run a program in the patch panel."""
        process = NamespaceProcess(self._panel.process, None, argv, {}, input=input)
        process.close_input()
        return finished("panel", process, 20.0, check)

    def panel_spawn(self, *argv: str) -> Process:
        """Start a program in the patch panel; it ends with the lab."""
        return NamespaceProcess(self._panel.process, None, argv, {})

    def panel_script(self, script: str, *words: str) -> Process:
        """Start a program of this folder in the patch panel, and wait until it says that it is ready."""
        process = self.panel_spawn(sys.executable, "-S", "-E", str(HERE / script), *words)
        process.wait_for("ready", 10.0)
        return process

    @property
    def _panel(self) -> Any:
        return self.lab.cabling

    def ports(self, label: str, way: Way) -> tuple[int, int]:
        """Return the panel's port by which frames of a cable come in on their way, and the one by which they leave."""
        one, other = self._panel.ports[self.cable(label)]
        return (one, other) if way == "right" else (other, one)

    def rate(self, label: str, share: float, ways: tuple[Way, ...] = BOTH) -> Callable[[], str]:
        """Have a cable carry this share of its rate; returns its evidence."""
        found = []
        for way in ways:
            _, out = self.ports(label, way)
            bits = round(self.lab.link.rate * self.cable(label).speedup * share)
            words = (
                f"tc qdisc change dev port{out} root handle 1: tbf rate {bits}bit burst 16384 latency 50ms overhead 24"
            )
            self.panel(*words.split())
            found.append((out, bits))

        def shown() -> str:
            lines = []
            for out, bits in found:
                text = self.panel("tc", "-j", "-s", "qdisc", "show", "dev", f"port{out}").stdout
                tbf = next(one for one in json.loads(text) if one["kind"] == "tbf")
                lines.append(f"port {out}: {tbf['options']['rate'] * 8} bit/s, {tbf['bytes']} bytes")
                require(abs(tbf["options"]["rate"] * 8 - bits) <= 8, lines[-1])
            return "; ".join(lines)

        return shown

    def slow(self, label: str, share: float, ways: tuple[Way, ...] = BOTH) -> Callable[[], str]:
        """Have a cable carry only this share of its rate, by a bottleneck on its way: its own shaper is as it was set up."""
        bits = round(self.lab.link.rate * self.cable(label).speedup * share)
        for way in ways:
            into, out = self.ports(label, way)
            self.hub(f"slow{into}", bits, f'  counter fwd to "port{out}"')
            self.wire(into, f'  counter fwd to "slow{into}i"')
        return lambda: (
            f"a bottleneck of {bits} bit/s; {self.met([f'fault{self.ports(label, way)[0]}' for way in ways])}"
        )

    def hub(self, name: str, bits: int, rules: str) -> None:
        """Make a pair of devices: frames that enter ``NAMEi`` leave by the rules, no more of them than so many bit/s."""
        self.panel(
            "sh",
            "-ec",
            f"ip link add {name}i type veth peer name {name}o\n"
            f"for one in {name}i {name}o; do ip link set $one up; ethtool -K $one tx off tso off gso off gro off; done\n"
            f"tc qdisc add dev {name}i root handle 1: tbf rate {bits}bit burst 16384 latency 50ms overhead 24",
        )
        self._table(f"fault{name}", f"{name}o", rules)

    def wire(self, into: int, rules: str) -> None:
        """Have the frames that come in by a port of the panel pass these rules, and nothing else."""
        self._own(into)
        self.panel("nft", "delete", "table", "netdev", f"fault{into}", check=False)
        self._table(f"fault{into}", f"port{into}", rules)

    def _table(self, name: str, device: str, rules: str) -> None:
        text = (
            f"table netdev {name} {{\n chain wire {{\n"
            f'  type filter hook ingress device "{device}" priority 0;\n{rules}\n }}\n}}\n'
        )
        self.panel("nft", "-f", "-", input=text)

    def rules(self, label: str, rules: str, ways: tuple[Way, ...] = BOTH) -> Callable[[], str]:
        """Have frames of a cable pass rules of nftables; what they let pass crosses, ``OUT`` stands for the port where to.

        Each rule must count: the evidence is that one of them met frames.
        """
        tables = []
        for way in ways:
            into, out = self.ports(label, way)
            lines = rules.replace("OUT", f'"port{out}"')
            self.wire(into, f'{lines}\n  fwd to "port{out}"')
            tables.append(f"fault{into}")
        return lambda: self.met(tables)

    def met(self, tables: list[str]) -> str:
        """Return the rules of these tables that met frames. Raises NotInForce where none did."""
        text = "".join(self.panel("nft", "list", "table", "netdev", name).stdout for name in tables)
        met = [line.strip() for line in text.splitlines() if re.search(r"counter packets [1-9]", line)]
        return require(met, "; ".join(met) or f"no frame met a rule: {' '.join(text.split())}")

    def _own(self, port: int) -> None:
        """Take the panel's own crossover from a port: the rules cross the frames instead."""
        if port not in self._wired:
            self._wired.add(port)
            self.panel("tc", "filter", "del", "dev", f"port{port}", "ingress")

    def line(self, label: str, *words: str, ways: tuple[Way, ...] = BOTH) -> Callable[[], str]:
        """Have frames of a cable take a line that delays them: words as ``delay_line.py`` takes them."""
        running = []
        for way in ways:
            into, out = self.ports(label, way)
            self._own(into)
            running.append(self.panel_script("delay_line.py", f"port{into}", f"port{out}", *words))

        def shown() -> str:
            told = []
            for process in running:
                require(process.poll() is None, f"the delay line has ended: {process.stderr}")
                process.signal(10)
                told.append(process.wait_for(r"crossed (?!0 )\d+ .*", 5.0)[0])
            return "; ".join(told)

        return shown
