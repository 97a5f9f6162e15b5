"""The process that holds places of a labgrid coordinator for a run, and gives them back when the run ends, however it ends.

It talks labgrid's own protocol through labgrid's own client (package ``labgrid``, ``labgrid.remote``), apart from the run:
what the run forks has nothing of gRPC's threads, and a run that is killed closes this process's input. It says what happens in
lines of JSON, each an object with ``waiting``, ``places``, ``fault`` or ``lost``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

CONNECT_TIMEOUT = 15.0
"""Seconds that the coordinator may take to answer."""
POLL = 0.5
"""Seconds between two looks at a reservation; one that nobody looks at for 60 s is taken away."""
PATIENCE = 20.0
"""Seconds after which some places are given up where others are still waited for: two runs may wait for each other."""
RESOURCE = "ChannoverLab"
"""The class of the resource that names a place's lab."""


class Fault(Exception):
    """What keeps a place from being had, in a line."""


def say(**words: object) -> None:
    """Tell the run."""
    print(json.dumps(words), flush=True)


@dataclass
class Keeper:
    """Holds ``count`` places that have certain tags."""

    address: str
    tags: Mapping[str, str]
    count: int
    session: Any
    held: list[str] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    async def fitting(self) -> list[str]:
        """Return the names of the places that have the tags. Raises Fault where there are too few."""
        places = self.session.places
        found = [
            name for name, place in sorted(places.items()) if self.tags.items() <= {**place.tags, "name": name}.items()
        ]
        if len(found) < max(self.count, 1):
            wanted = " ".join(f"{key}={value}" for key, value in self.tags.items()) or "any"
            there = "; ".join(
                " ".join((name, *(f"{key}={value}" for key, value in sorted(place.tags.items()))))
                for name, place in sorted(places.items())
            )
            raise Fault(
                f"places with the tags {wanted}: {len(found)}, and wanted: {max(self.count, 1)}; it has: {there or 'none'}"
            )
        return found

    async def reserve(self, fitting: list[str]) -> list[str]:
        """Wait until as many places are this run's as it wants, and return them. Raises Fault."""
        from labgrid.remote.common import ReservationState
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

        loop, told = asyncio.get_running_loop(), False
        while True:
            wanted = messages.Reservation.Filter(filter=dict(self.tags))
            for _ in range(self.count):
                request = messages.CreateReservationRequest(filters={"main": wanted}, prio=0.0)
                self.tokens.append((await self.session.stub.CreateReservation(request)).reservation.token)
            partly = 0.0
            while True:
                polled = [
                    (await self.session.stub.PollReservation(messages.PollReservationRequest(token=token))).reservation
                    for token in self.tokens
                ]
                if bad := [one for one in polled if ReservationState(one.state).name in ("invalid", "expired")]:
                    raise Fault(f"the coordinator has ended the reservation {bad[0].token}")
                ours = [one.allocations["main"] for one in polled if "main" in one.allocations]
                if len(ours) == self.count:
                    return ours
                if not told:
                    told = True
                    say(waiting=[f"{name} ({self.session.places[name].acquired or 'reserved'})" for name in fitting])
                partly = (partly or loop.time()) if ours else 0.0
                if partly and loop.time() - partly > PATIENCE + random.uniform(0, PATIENCE):
                    break
                await asyncio.sleep(POLL)
            await self.cancel()
            await asyncio.sleep(random.uniform(1, 5))

    async def acquire(self, names: list[str]) -> None:
        """Take places that are reserved for this run. Raises Fault."""
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

        for name in names:
            await self.session.stub.AcquirePlace(messages.AcquirePlaceRequest(placename=name))
            self.held.append(name)
        await self.session.sync_with_coordinator()

    def lab_of(self, name: str) -> dict[str, str]:
        """Return what the resource that names a place's lab says. Raises Fault."""
        place = self.session.places[name]
        for exporter, groups in sorted(self.session.resources.items()):
            for group, resources in sorted(groups.items()):
                for resource, entry in sorted(resources.items()):
                    path = (exporter, group, entry.cls, resource) if entry.data else ()
                    if path and entry.cls == RESOURCE and place.hasmatch(path):
                        return {key: str(value) for key, value in entry.args.items() if key in ("inventory", "lab")}
        raise Fault(
            f"place {name} has no resource of the class {RESOURCE}, which names its lab: see labgrid-client -p {name} show"
        )

    async def cancel(self) -> None:
        """Give back reservations."""
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

        for token in self.tokens:
            await self.session.stub.CancelReservation(messages.CancelReservationRequest(token=token))
        self.tokens.clear()

    async def give_back(self) -> None:
        """Give back all that is held."""
        from labgrid.remote.generated import labgrid_coordinator_pb2 as messages

        owner = f"{self.session.gethostname()}/{self.session.getuser()}"
        await (
            self.cancel()
        )  # first: a place that is released while reserved waits for the coordinator's next round (15 s)
        for name in self.held:
            await self.session.stub.ReleasePlace(messages.ReleasePlaceRequest(placename=name, fromuser=owner))

    async def places(self) -> list[dict[str, str]]:
        """Take the places, or with a count of 0 look at the first; return the name and lab of each. Raises Fault."""
        fitting = await self.fitting()
        if self.count:
            await self.acquire(await self.reserve(fitting))
        return [{"place": name, **self.lab_of(name)} for name in (self.held if self.count else fitting[:1])]


async def _until_closed() -> None:
    """Wait until the run closes this process's input, or is no more."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def keep(address: str, tags: Mapping[str, str], count: int) -> None:
    """Hold places until the run ends or the coordinator is gone."""
    import grpc
    from labgrid.remote.client import ClientSession, ServerError

    session = ClientSession(address, asyncio.get_running_loop())
    keeper = Keeper(address, tags, count, session)
    closed = asyncio.ensure_future(_until_closed())
    gone = asyncio.ensure_future(session.stopping.wait())
    try:
        await asyncio.wait_for(session.start(), CONNECT_TIMEOUT)
        work = asyncio.ensure_future(keeper.places())
        await asyncio.wait({work, closed, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            say(places=work.result())
            await asyncio.wait({closed, gone}, return_when=asyncio.FIRST_COMPLETED)
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        if gone.done() and not closed.done():
            say(lost="its coordinator is gone", holding=bool(keeper.held))
            await closed
    except (ServerError, TimeoutError, asyncio.TimeoutError):
        say(fault="it does not answer: is labgrid-coordinator running there")
    except Fault as fault:
        say(fault=str(fault))
    except grpc.aio.AioRpcError as error:
        say(fault=" ".join(str(error.details()).split()) or error.code().name)
    finally:
        if not session.stopping.is_set():
            await asyncio.wait_for(keeper.give_back(), CONNECT_TIMEOUT)
            session.stopping.set()  # its own stop() wants that
            await session.stop()
        await session.close()
        for task in (closed, gone):
            task.cancel()


def main() -> int:
    """Hold places as the command line says: the address, tags as JSON, and how many; 0 is only a look."""
    logging.disable(logging.CRITICAL)
    address, tags, count = sys.argv[1:]
    asyncio.run(keep(address, json.loads(tags), int(count)))
    return 0
