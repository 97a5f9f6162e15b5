"""File copies under measurement: real servers and clients, the NICs sampled beside them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import allure

from channover.hosts.base import Host
from channover.measuring import End, Measuring, Waiting
from channover.nicuse import NicUse
from channover.observe.nics import NicSeries, Sampler
from channover.slot import measuring_slot
from channover.traffic.files import Copy, FileProtocol, serve, start_copy
from channover.verdict.expect import Measured, count
from channover.verdict.statistics import Estimate

TYPICAL = 1.5
"""How long (seconds) a copy over one link should take: long enough that its start does not show."""
SMALLEST = 5_000_000
"""Bytes of the smallest file: a shaper's bucket lets 16 kB through at once (``tc-tbf(8)``), which must not show."""


@dataclass(frozen=True)
class Copied:
    """A copy that has ended."""

    copy: Copy
    nics: NicUse
    measuring: Measuring = field(repr=False)
    hosts: Sequence[Host] = field(repr=False)

    @property
    def title(self) -> str:
        """What was copied, in a few words: ``copy by HTTP, right→left``."""
        client, server = self.nics.ends
        return f"copy by {self.copy.protocol.name}, {server.name}→{client.name}"

    @property
    def goodput(self) -> Measured:
        """The file's bytes over the time from the request to the last byte, in bit/s."""
        known = Estimate(self.copy.goodput, 0.0, 1)
        name = f"{self.copy.protocol.name} goodput"
        return Measured(name, known=known, record=self.measuring.record, explain=self._explain)

    @property
    def nics_used(self) -> Measured:
        """On how many NICs the file travelled: the larger number of the two ends."""
        return self.nics.used_count

    def _explain(self) -> str:
        lines = [f"{self.copy.size:,} bytes in {self.copy.seconds:.2f} s, after {self.copy.setup:.2f} s of set-up"]
        lines += [f"{name}: {self.nics.carried(host)} bytes by NIC" for name, host in self._hosts()]
        return "\n".join(lines)

    def _hosts(self) -> list[tuple[str, Host]]:
        return [(host.name, host) for host in self.nics.ends]


@dataclass(frozen=True)
class Copies:
    """What a test calls to copy a file: ``copies(FileProtocol.HTTP, client, server)``."""

    measuring: Measuring
    closed: Callable[[Copied], None] = field(repr=False)

    def __call__(
        self, protocol: FileProtocol, client: End, server: End, *, mptcp: bool = False, watched: Sequence[Host] = ()
    ) -> Copied:
        """Copy a file from server to client, to its end; both speak MPTCP if asked to. Raises RigError."""
        links = 4 if mptcp else 1  # two links, for twice as long: the start of an MPTCP connection is slower
        rate = self.measuring.link.rate
        seconds = self.measuring.duration or max(TYPICAL, SMALLEST * 8 / rate)
        size = int(rate * links * seconds / 8)
        hosts = {host.name: host for host in (client.host, server.host, *watched)}
        with serve(server.host, protocol, str(server.address.ip), size, mptcp=mptcp) as serving:
            with measuring_slot():
                samplers = {name: Sampler(host) for name, host in hosts.items()}
                with allure.step(
                    f"copy {size:,} bytes by {protocol.name} from {server.host.name} to {client.host.name}"
                ):
                    waiting = Waiting(f"copy by {protocol.name}", size * 8 / rate * 5 + 10)
                    copying = start_copy(client.host, serving)
                    while copying.running and waiting.elapsed < waiting.limit:
                        self.measuring.progress(waiting)
                        time.sleep(0.05)
                    waiting.seconds = waiting.elapsed
                    self.measuring.progress(waiting)
                    done = copying.wait(1.0)
                series = {name: sampler.stop() for name, sampler in samplers.items()}
            use = self._use(series, [client.host, server.host])
            copied = Copied(done, use, self.measuring, list(hosts.values()))
            self.closed(copied)
            return copied

    def _use(self, series: dict[str, NicSeries], ends: Sequence[Host]) -> NicUse:
        def make(name: str, number: float, unit: str) -> Measured:
            return count(name, number, self.measuring.record, unit)

        return NicUse(series, ends, self.measuring.link, make)
