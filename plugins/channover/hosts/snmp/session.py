"""Questions by SNMP v2c and v3 (RFC 3416, RFC 3414), over pysnmp. Nothing is ever set."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any, TypeVar

from channover.errors import TestbedError
from channover.hosts.snmp.credentials import Credentials

TIMEOUT, RETRIES = 1.5, 2
"""Seconds that an answer may take, and how often a question is asked again."""
REPETITIONS = 25
"""Rows that are asked for at once (GetBulk)."""
MOST = 20_000
"""Rows of a column that are read at most: a chassis has thousands of interfaces."""
Row = tuple[tuple[int, ...], Any]
"""What stands behind a column's number, the index, and the value as pysnmp has it."""
_Answer = TypeVar("_Answer")


class Unreadable(TestbedError):
    """A switch that does not answer, or not with what is asked for."""


@dataclass(frozen=True)
class Session:
    """One agent, and how it is asked."""

    address: str
    port: int
    credentials: Credentials

    def columns(self, *columns: str) -> dict[str, list[Row]]:
        """Return the rows of each column (an object identifier). Raises Unreadable."""
        return _done(self._columns(columns))

    def scalars(self, *names: str) -> dict[str, str]:
        """Return values by object identifier, as texts; one that is not there is empty. Raises Unreadable."""
        return _done(self._scalars(names))

    async def _ask(self) -> tuple[Any, ...]:
        from pysnmp.hlapi.v3arch import asyncio as snmp

        kind = snmp.Udp6TransportTarget if ":" in self.address else snmp.UdpTransportTarget
        try:
            target = await kind.create((self.address, self.port), timeout=TIMEOUT, retries=RETRIES)
        except Exception as error:  # pysnmp's own for a name that does not resolve
            raise Unreadable(f"{self.address} is no address that can be reached: {error}") from None
        return _engine(), _auth(self.credentials), target, snmp.ContextData()

    async def _columns(self, columns: Sequence[str]) -> dict[str, list[Row]]:
        from pysnmp.hlapi.v3arch import asyncio as snmp

        how, found = await self._ask(), {}
        for column in columns:
            base = tuple(int(part) for part in column.split("."))
            rows: list[Row] = []
            asked = snmp.ObjectType(snmp.ObjectIdentity(column))
            walk = snmp.bulk_walk_cmd(*how, 0, REPETITIONS, asked, lookupMib=False, lexicographicMode=False)
            async for error, status, _, bound in walk:
                self._refused(error, status)
                for name, value in bound:
                    oid = tuple(name)
                    if oid[: len(base)] == base:
                        rows.append((oid[len(base) :], value))
                if len(rows) > MOST:
                    break
            found[column] = rows
        return found

    async def _scalars(self, names: Sequence[str]) -> dict[str, str]:
        from pysnmp.hlapi.v3arch import asyncio as snmp

        asked = [snmp.ObjectType(snmp.ObjectIdentity(name)) for name in names]
        error, status, _, bound = await snmp.get_cmd(*await self._ask(), *asked, lookupMib=False)
        self._refused(error, status)
        return {name: text(value) for name, (_, value) in zip(names, bound, strict=True)}

    def _refused(self, error: Any, status: Any) -> None:
        """Raise Unreadable where the agent gave no answer, or one that is none."""
        if not error and not status:
            return
        words = " ".join(str(error or status.prettyPrint()).split())
        where, given = f"{self.address} port {self.port}", self.credentials
        if "before timeout" in words and given.community:
            raise Unreadable(
                f"{where} does not answer SNMP {given.version}: is its agent on, does it allow this machine, and is the "
                f"community of {given.source} its own (an agent keeps silent of a wrong one)"
            )
        if "before timeout" in words:
            raise Unreadable(
                f"{where} does not answer SNMP {given.version}: is its agent on, and does it allow this machine"
            )
        raise Unreadable(f"{where} refuses SNMP {given.version} with what {given.source} has: {words}")


def text(value: Any) -> str:
    """Return a value as text: bytes that are none as they are written in hexadecimal."""
    if type(value).__name__ in ("NoSuchObject", "NoSuchInstance", "EndOfMibView", "Null"):
        return ""
    if hasattr(value, "asOctets"):
        octets = bytes(value.asOctets())
        try:
            found = octets.rstrip(b"\0").decode()
        except UnicodeDecodeError:
            return octets.hex(":")
        return (
            " ".join(found.split()) if all(sign.isprintable() or sign.isspace() for sign in found) else octets.hex(":")
        )
    return str(value)


def octets(value: Any) -> bytes:
    """Return a value's bytes; none where it is no string of them."""
    return bytes(value.asOctets()) if hasattr(value, "asOctets") else b""


def _auth(given: Credentials) -> Any:
    from pysnmp.hlapi.v3arch import asyncio as snmp

    if given.community:
        return snmp.CommunityData(given.community, mpModel=1)
    auth = {
        "MD5": snmp.usmHMACMD5AuthProtocol,
        "SHA": snmp.usmHMACSHAAuthProtocol,
        "SHA-224": snmp.usmHMAC128SHA224AuthProtocol,
        "SHA-256": snmp.usmHMAC192SHA256AuthProtocol,
        "SHA-384": snmp.usmHMAC256SHA384AuthProtocol,
        "SHA-512": snmp.usmHMAC384SHA512AuthProtocol,
    }
    priv = {
        "DES": snmp.usmDESPrivProtocol,
        "AES": snmp.usmAesCfb128Protocol,
        "AES-192": snmp.usmAesCfb192Protocol,
        "AES-256": snmp.usmAesCfb256Protocol,
    }
    return snmp.UsmUserData(
        given.user,
        given.auth or None,
        given.priv or None,
        authProtocol=auth[given.auth_type] if given.auth else snmp.usmNoAuthProtocol,
        privProtocol=priv[given.priv_type] if given.priv else snmp.usmNoPrivProtocol,
    )


@cache
def _engine() -> Any:
    """Return the engine of this process; it lives in the loop of :func:`_loop`."""
    from pysnmp.hlapi.v3arch import asyncio as snmp

    return snmp.SnmpEngine()


_ONE = threading.Lock()
"""Held while the loop is asked for: of two switches that are read at once for the first time each would make its own."""


def _loop() -> asyncio.AbstractEventLoop:
    """Return a loop that runs in a thread of its own: an engine costs half a second, and lives in one loop."""
    if find_spec("pysnmp") is None:
        raise Unreadable("switches are read with the package pysnmp: pip install 'channover[snmp]'")
    with _ONE:
        return _made()


@cache
def _made() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="snmp", daemon=True).start()
    return loop


def _done(work: Coroutine[Any, Any, _Answer]) -> _Answer:
    try:
        loop = _loop()
    except Unreadable:
        work.close()
        raise
    return asyncio.run_coroutine_threadsafe(work, loop).result()
