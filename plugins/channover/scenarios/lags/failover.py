"""A link of a LAG that is lost and comes back under flows of numbered datagrams: which flows it carried, and what they lost.

Each end of a LAG chooses a link for what it sends (IEEE 802.1AX-2014, 6.2.4), so the sender's choice is looked at. A flow is
one source port: with ``layer3+4`` the flows spread over the links, and every flow that the lost link did not carry is a
control: what it loses, too, is the machine's doing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from channover.errors import TestbedError, UsageError
from channover.hosts.lab import Lab
from channover.measure.running.numbered_traffic import DATAGRAM_PORT, NumberedTraffic
from channover.measure.running.phased import Phased, Span
from channover.model.operations.kernel import SysctlSet
from channover.model.plan import Plan
from channover.model.topology import Cable, Port
from channover.network.lag import DealsFlows, LacpRate, Lag, NeedsLinks, NoticesCarrier
from channover.network.programs.numbered import FIRST_PORT, FlowSeen
from channover.observe.captures import Listening
from channover.verdict.expectation import Expectation, at_most, between
from channover.verdict.measured import Measured

LONG = 15.0
"""Seconds of an outage from which on others may measure beside these few datagrams: both links' flows show what that takes."""
FLOWS = 8
RATE, EMULATED_RATE = 100.0, 25.0
"""Datagrams a second of each flow: how exact (1/s) an outage is known. Emulated processors take no more in time."""
PAYLOAD = 200
"""Bytes of a datagram: all flows together are no load for any link, and a switch's buffer holds a third of a second of them."""
EACH = 6
"""Flows for each link of a LAG of more than two: with eight of these one stays without in one of 75 times."""
TRIES = 6
"""How often flows are dealt out until each link has some: all eight on one link come once in 128 times."""
LOOK = 0.6
"""Seconds for which flows are watched to see which link carries them."""
SLACK, EMULATED_SLACK = 0.2, 1.0
"""Seconds beyond what timers say: a stall of the machine that only one link's flows show."""
WAIT_WHILE = 2.0
"""Seconds that a link waits for others before it is attached to its LAG (IEEE 802.1AX-2014, 6.4.4: Aggregate_Wait_Time)."""


@dataclass(eq=False)
class FlowsOfLinks:
    """Flows of datagrams over a LAG, of which ``link`` (the sender's NIC, by label) carries the ports ``on_it``."""

    lab: Lab
    lag: Lag
    moving: Phased
    link: str
    on_it: frozenset[int]
    returned: frozenset[int] = frozenset()
    _back: float = 0.0
    _dealing: Sequence[Span] = ()

    @property
    def cable(self) -> Cable:
        """The cable of the link."""
        port = Port(self.lag.left.host.name, self.link)
        return next(one for one in self.lab.topology.cables if port in one.ports)

    @property
    def _slack(self) -> float:
        return EMULATED_SLACK if self.lab.patience > 1 else SLACK

    # What is done

    def lose(self, *, silently: bool, seconds: float = 0.0, one_way: bool = False) -> None:
        """Lose the link, for as long as it takes to be noticed and a second, or for so many seconds; then plug it in again.

        ``one_way`` loses only what the sender of the datagrams sends, silently. Raises TestbedError, NotAllowed.
        """
        sender = Port(self.lag.left.host.name, self.link) if one_way else None
        hold = seconds or (self.lag.rate.timeout if silently else self.notices_carrier) + 1.0 + self._slack
        if hold > LONG:
            self.moving.turn.close()
        with self.lab.lost(self.cable, silently=silently, sender=sender):
            self.moving.phase("fault: link lost", hold)

    @contextmanager
    def every_link_needed(self) -> Iterator[int]:
        """Have both ends be down without one of their links for the length of a block; yields how many links they need.

        That is one where a driver knows no least number of them. Raises TestbedError.
        """
        with ExitStack() as stack:
            handles = [end.handle for end in self.lag.ends]
            able = [one for one in handles if isinstance(one, NeedsLinks)]
            for one in able if len(able) == len(handles) else ():
                stack.enter_context(one.least_links(self.lag.links))
            yield self.lag.links if len(able) == len(handles) else 1

    def use_again(self) -> None:
        """Wait until the link is at work at both ends, and see which flows it carries. Raises TestbedError.

        A driver that moves no flow back by itself deals them out anew.
        """
        self._back = self.moving.phase_until("recovery", self._at_work, 2 * self.again_within)
        self.returned = _carried(self.lag, self.moving, "back").get(self.link, frozenset())
        for number in range(1, TRIES):
            if self.returned or not self.deals or self.moving.measuring.rehearsed:
                return
            self._deal()
            self.returned = _carried(self.lag, self.moving, f"dealt anew {number}").get(self.link, frozenset())

    def _deal(self) -> None:
        begin = self.moving.now()
        for end in self.lag.ends:
            if isinstance(end.handle, DealsFlows):
                end.handle.deal()
        self._dealing = (*self._dealing, Span("dealt out anew", begin, self.moving.now()))

    def _at_work(self) -> bool:
        with suppress(TestbedError):  # no LAG by LACP any more: then it is not at work
            return all(len(end.status().working) == self.lag.links for end in self.lag.ends)
        return False

    # What is expected

    @property
    def deals(self) -> bool:
        """Whether the sender's driver deals flows out to links once, and moves none back by itself."""
        return isinstance(self.lag.left.handle, DealsFlows)

    @property
    def notices_carrier(self) -> float:
        """How soon (seconds) both ends take a lost carrier for a lost link; within a second where a driver does not tell."""
        ends = (end.handle for end in self.lag.ends)
        return max(one.notices_carrier if isinstance(one, NoticesCarrier) else 1.0 for one in ends)

    @property
    def again_within(self) -> float:
        """How soon (seconds) the link is used again: two LACP frames, the wait for others, and the drivers' delays."""
        return 2 * self.lag.rate.interval + WAIT_WHILE + self.notices_carrier + self._slack

    def noticed(self, *, silently: bool) -> Expectation:
        """Return how long (s) the flows of the link may be out: until the carrier's loss counts, or LACP's timer has run out.

        A partner is lost so long after its last frame; the link was lost up to one interval after that.
        """
        if not silently:
            most = self.notices_carrier
            return at_most(most + self._slack, f"the drivers notice a lost carrier within {most:g} s")
        rate = self.lag.rate
        least = rate.timeout - rate.interval
        return between(
            least - self._slack, rate.timeout + self._slack, f"LACP's timer: {least:g} to {rate.timeout:g} s"
        )

    # What was seen

    @property
    def of_link(self) -> Sequence[FlowSeen]:
        """The flows that the link carried when it was lost."""
        return [flow for flow in self.moving.flows if flow.port in self.on_it]

    @property
    def of_others(self) -> Sequence[FlowSeen]:
        """The flows of the other links."""
        return [flow for flow in self.moving.flows if flow.port not in self.on_it]

    @property
    def outage(self) -> Measured:
        """How long (s) the flows of the link were out, less what the other links' flows show."""
        return self.moving.outage(self.of_link, "the lost link's flows", self.of_others)

    @property
    def outage_beside(self) -> Measured:
        """How long (s) the other links' flows were out."""
        return self.moving.outage(self.of_others, "the other link's flows")

    @property
    def outage_of_all(self) -> Measured:
        """How long (s) every single flow was out, at least."""
        least = min((flow.outage for flow in self.moving.flows), default=0.0)
        return self.moving.value("outage of every flow", least, "s")

    @property
    def lost(self) -> Measured:
        """How many datagrams each flow of the link lost at most, less what each of the other links' flows did."""
        return self.moving.lost_each(self.of_link, "a flow of the lost link", self.of_others)

    def datagrams(self, seconds: float) -> Expectation:
        """Return that a flow loses at most what it sends in so many seconds."""
        return at_most(seconds * self.moving.flows[0].rate + 1, f"what it sends in {seconds:g} s")

    @property
    def lost_on_return(self) -> Measured:
        """How many datagrams flows lost from when it was plugged in again, but for those lost as they were dealt out anew."""
        return self.moving.lost_since("recovery", self.moving.flows, "on return", self._dealing)

    @property
    def lost_in_dealing(self) -> Measured:
        """How many datagrams a flow lost at most as flows were dealt out anew, which is the test's doing and not the link's."""
        return self.moving.lost_in(self._dealing, self.moving.flows, "a flow, as flows were dealt out anew")

    @property
    def back(self) -> Measured:
        """How long (s) it took until the link was at work again."""
        return self.moving.value("link at work again after", self._back, "s")

    @property
    def on_it_again(self) -> Measured:
        """How many flows the link carried when it had come back: the text says so where they were dealt out anew."""
        return self.moving.value(
            f"flows on the link again{', dealt out anew' if self.deals else ''}", len(self.returned)
        )


@dataclass(frozen=True)
class SpreadFlows:
    """What a test calls for flows of which every link of a LAG carries some: ``with spread(lag) as flows``."""

    lab: Lab
    numbered: NumberedTraffic

    @contextmanager
    def __call__(self, lag: Lag) -> Iterator[FlowsOfLinks]:
        """Send them for the length of a block. Raises TestbedError where one link carries all, however they are dealt."""
        with self._neighbours_stay(lag):
            yield from self._spread(lag)

    def _spread(self, lag: Lag) -> Iterator[FlowsOfLinks]:
        rate = EMULATED_RATE if self.lab.patience > 1 else RATE
        nics = [nic.name for nic in lag.left.host.nics.values() if nic.device in lag.left.members]
        number = FLOWS if lag.links == 2 else EACH * lag.links
        for first in range(FIRST_PORT, FIRST_PORT + TRIES * number, number):
            with self.numbered.datagrams(
                lag.left,
                lag.right,
                flows=number,
                rate=rate,
                payload=PAYLOAD,
                limit=60 + 4 * lag.rate.timeout,
                first_port=first,
            ) as moving:
                carried = _carried(lag, moving, "before")
                one_link_each = sum(map(len, carried.values())) == len(frozenset().union(*carried.values()))
                if (len(carried) == len(nics) and one_link_each) or moving.measuring.rehearsed:
                    yield FlowsOfLinks(self.lab, lag, moving, nics[0], carried.get(nics[0], frozenset()))
                    return
        raise TestbedError(
            f"{lag.left.host.name}: a link carries none of {number} flows, or flows change links, {TRIES} times: that shows "
            "nothing of a lost link"
        )

    @contextmanager
    def _neighbours_stay(self, lag: Lag) -> Iterator[None]:
        """Keep what the ends know of each other's MAC address for the length of a block: half a minute is a neighbour's time.

        Its probes are a flow like any other: where the lost link carries them, every flow ends with the entry.
        """
        with ExitStack() as stack:
            for end in lag.ends if lag.rate is LacpRate.SLOW else ():
                key = f"net/ipv{end.address.version}/neigh/{end.device}/base_reachable_time_ms"
                stay = SysctlSet(key, str(int(4e3 * lag.rate.timeout + 6e4)))
                with suppress(UsageError):  # a host that guards itself does not let a lab set it
                    stack.enter_context(end.host.applied(Plan.of("neighbours stay known", [stay])))
            yield


def _carried(lag: Lag, moving: Phased, phase: str) -> Mapping[str, frozenset[int]]:
    """Return the source ports of the flows that each NIC of the sender carries, as a phase; a NIC without any is left out."""
    sender = lag.left.host
    with Listening((sender,), but_from=lag.right.address) as listening:
        moving.phase(phase, LOOK)
    found = {nic: frames.source_ports(DATAGRAM_PORT) for (_, nic), frames in listening.heard.items()}
    return {nic: ports for nic, ports in found.items() if ports}
