"""Bytes and packets per NIC, and how they grew while traffic ran.

The kernel's counters hold the Ethernet header and the packet, not the 24 bytes of preamble, FCS and gap
(``channover.model.link``). A NIC's drops are the host's own, not the wire's.

A :class:`Sampler` is one bash process on the host that forks nothing: it reads ``/proc/net/dev`` itself and waits with
``read -t`` on its standard input. When that closes, because the controller is gone, it ends.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from types import TracebackType

from channover.errors import TestbedError
from channover.hosts.host import Host, Process, each

DEV = "/proc/net/dev"
INTERVAL = 0.1
"""Seconds between two samples."""

_SCRIPT = r"""
LC_ALL=C
: "${EPOCHREALTIME:?needs bash 5.0 or newer}"
interval=$1; shift
printf -v names '%s|' "$@"
pattern="^ *(${names%|}):"
sample() {
    local now=$EPOCHREALTIME lines line text
    mapfile -t lines < /proc/net/dev
    text=@$now$'\n'
    for line in "${lines[@]}"; do
        [[ $line =~ $pattern ]] && text+=$line$'\n'
    done
    printf '%s.\n' "$text"
}
trap 'sample; exit 0' TERM
while :; do
    sample
    read -r -t "$interval" _
    [[ $? -gt 128 ]] || break
done
"""


@dataclass(frozen=True)
class NicCounters:
    """One NIC's counters since it came to be, or their growth: bytes, packets, errors and drops in each direction."""

    rx_bytes: int = 0
    rx_packets: int = 0
    rx_errors: int = 0
    rx_drops: int = 0
    tx_bytes: int = 0
    tx_packets: int = 0
    tx_errors: int = 0
    tx_drops: int = 0

    def __sub__(self, before: NicCounters) -> NicCounters:
        return NicCounters(
            **{each.name: getattr(self, each.name) - getattr(before, each.name) for each in fields(NicCounters)}
        )

    @property
    def total_bytes(self) -> int:
        """Bytes of both directions."""
        return self.rx_bytes + self.tx_bytes


def parse_dev(text: str) -> dict[str, NicCounters]:
    """Return the counters of each device in ``/proc/net/dev`` or in lines of it. Raises ValueError."""
    found = {}
    for line in text.splitlines():
        device, colon, numbers = line.partition(":")
        if colon:  # the two lines of headings have none
            values = [int(number) for number in numbers.split()]
            if len(values) < 16:
                raise ValueError(f"no counters of a device: {line!r}")
            found[device.strip()] = NicCounters(*values[0:4], *values[8:12])
    return found


def nic_counters(host: Host) -> dict[str, NicCounters]:
    """Read the counters of all the host's devices now. Raises TestbedError."""
    return parse_dev(host.read(DEV))


@dataclass(frozen=True)
class NicSeries:
    """Counters of a host's devices over time.

    ``samples[device][n]`` was read at ``times[n]`` (seconds since the epoch).
    """

    host: str
    times: tuple[float, ...]
    samples: Mapping[str, tuple[NicCounters, ...]]

    @property
    def duration(self) -> float:
        """Seconds from the first sample to the last."""
        return self.times[-1] - self.times[0]

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices, in the order in which they were asked for."""
        return tuple(self.samples)

    @property
    def middles(self) -> tuple[float, ...]:
        """The moment in the middle of each interval (seconds since the epoch): where ``rate`` belongs on an axis."""
        return tuple((start + end) / 2 for start, end in zip(self.times, self.times[1:], strict=False))

    def bytes(self, device: str, direction: str = "tx") -> tuple[int, ...]:
        """Return a device's bytes at each sample; direction is ``tx`` or ``rx``. Raises KeyError."""
        return tuple(getattr(sample, f"{direction}_bytes") for sample in self.samples[device])

    def rate(self, device: str, direction: str = "tx") -> tuple[float, ...]:
        """Return the rate (bit/s, as the counters count) of each interval between samples. Raises KeyError."""
        sizes = self.bytes(device, direction)
        return tuple(
            (sizes[number + 1] - sizes[number]) * 8 / (self.times[number + 1] - self.times[number])
            for number in range(len(sizes) - 1)
        )

    def delta(self, device: str) -> NicCounters:
        """Return what the counters grew by from the first sample to the last. Raises KeyError."""
        samples = self.samples[device]
        return samples[-1] - samples[0]

    def mean(self, device: str, direction: str = "tx") -> float:
        """Return the mean rate (bit/s) from the first sample to the last. Raises KeyError."""
        sizes = self.bytes(device, direction)
        return (sizes[-1] - sizes[0]) * 8 / self.duration if self.duration else 0.0

    def mean_rate(self, device: str) -> float:
        """Return the mean rate (bit/s, as the counters count) of a device's busier direction, both ends cut off.

        Up to 0.5 s is left out at each end, and never more than a quarter, for traffic that started a little later and
        ended a little earlier than the samples. Raises KeyError.
        """
        moved = self.delta(device)
        direction = "tx" if moved.tx_bytes >= moved.rx_bytes else "rx"
        margin = min(0.5, self.duration / 4)
        return self.between(self.times[0] + margin, self.times[-1] - margin).mean(device, direction)

    def thinned(self, most: int) -> NicSeries:
        """Return every so many of its samples that at most ``most`` are left and the last one: counters lose nothing by it."""
        step = -(-len(self.times) // most)
        kept = [*range(0, len(self.times) - 1, step), len(self.times) - 1] if step > 1 else range(len(self.times))
        return NicSeries(
            self.host,
            tuple(self.times[number] for number in kept),
            {device: tuple(samples[number] for number in kept) for device, samples in self.samples.items()},
        )

    def between(self, start: float, end: float) -> NicSeries:
        """Return the samples from ``start`` to ``end`` (seconds since the epoch). Raises ValueError without any."""
        kept = [number for number, time in enumerate(self.times) if start <= time <= end]
        if not kept:
            raise ValueError(f"no sample between {start:.3f} and {end:.3f}")
        return NicSeries(
            self.host,
            tuple(self.times[number] for number in kept),
            {device: tuple(samples[number] for number in kept) for device, samples in self.samples.items()},
        )


def parse_samples(host: str, devices: Iterable[str], text: str) -> NicSeries:
    """Return the series that the sampler's output tells, without a torn last sample.

    Raises ValueError where no sample is whole. One is ``@seconds``, a line of ``/proc/net/dev`` a device, and a dot.
    """
    times: list[float] = []
    samples: dict[str, list[NicCounters]] = {device: [] for device in devices}
    for block in text.split("@")[1:]:
        stamp, _, rest = block.partition("\n")
        if not rest.endswith("\n.\n"):
            continue
        found = parse_dev(rest)
        if found.keys() >= samples.keys():  # a device that is gone leaves the series, with its host's last words
            times.append(float(stamp))
            for device, series in samples.items():
                series.append(found[device])
    if not times:
        raise ValueError(f"{host}: no sample of {', '.join(samples)} in {text[:120]!r}")
    return NicSeries(host, tuple(times), {device: tuple(series) for device, series in samples.items()})


class Sampler:
    """Samples the counters of a host's devices ten times a second until ``stop``.

    It is also a context manager: what it has seen is its ``series`` after the block. Raises TestbedError where bash is
    missing on the host, or a device is not there.
    """

    def __init__(self, host: Host, devices: Iterable[str] | None = None, interval: float = INTERVAL) -> None:
        self.host = host
        self.devices = tuple(devices) if devices is not None else tuple(nic.device for nic in host.nics.values())
        for device in self.devices:
            if not re.fullmatch(r"[A-Za-z0-9_.-]+", device):
                raise TestbedError(f"{host.name}: '{device}' is no name of a device that can be sampled")
        patterns = [device.replace(".", r"\.") for device in self.devices]
        self._process: Process = host.spawn("bash", "-c", _SCRIPT, "sampler", f"{interval:g}", *patterns)
        self.series: NicSeries | None = None
        try:
            self._process.wait_for(r"^\.$", 5.0)
        except TestbedError:
            self._process.stop()
            raise

    @property
    def taken(self) -> int:
        """How many samples it has taken so far."""
        return self._process.stdout.count("\n.\n")

    def so_far(self) -> NicSeries:
        """Return the samples so far. Raises TestbedError where there is none."""
        return self.series or self._parse()

    def _parse(self) -> NicSeries:
        try:
            return parse_samples(self.host.name, self.devices, self._process.stdout)
        except ValueError as error:
            raise TestbedError(f"{error}; {self._process.stderr.strip()[-200:]}") from None

    def lately(self, samples: int) -> NicSeries:
        """Return its last samples, so many at most. Raises TestbedError where there is none."""
        text = self._process.stdout
        start = len(text)
        for _ in range(samples):
            start = max(text.rfind("@", 0, start), 0)
        try:
            return parse_samples(self.host.name, self.devices, text[start:])
        except ValueError as error:
            raise TestbedError(str(error)) from None

    def rates(self, way: str, samples: int = 10) -> list[float]:
        """Return what the host's devices carried together in a direction lately, in bit/s as they count; none at its begin."""
        with contextlib.suppress(TestbedError):
            series = self.lately(samples)
            return [sum(row) for row in zip(*(series.rate(device, way) for device in series.devices), strict=True)]
        return []

    def shares(self, way: str, samples: int = 10) -> dict[str, float]:
        """Return the share (0 to 1) of the bytes that each of the host's NICs carried in a direction lately, by label."""
        with contextlib.suppress(TestbedError):  # it has just begun
            series = self.lately(samples)
            sizes = {
                nic.name: float(getattr(series.delta(nic.device), f"{way}_bytes"))
                for nic in self.host.nics.values()
                if nic.device in series.devices
            }
            if total := sum(sizes.values()):
                return {name: size / total for name, size in sizes.items()}
        return {}

    def stop(self) -> NicSeries:
        """Take a last sample, end, and return all of them. Raises TestbedError where there is none."""
        if self.series is None:
            self._process.stop()
            self.series = self._parse()
        return self.series

    def abandon(self) -> None:
        """End, whatever it has seen."""
        with contextlib.suppress(TestbedError):
            self._process.stop(1.0)

    def __enter__(self) -> Sampler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self._process.stop()


class Samplers:
    """Samplers of the NICs of several hosts, begun and ended side by side. Raises TestbedError, and leaves none behind.

    It is also a context manager, as each of them is.
    """

    def __init__(self, hosts: Iterable[Host]) -> None:
        self.hosts = tuple(hosts)
        self.by_host: dict[str, Sampler] = {}
        try:
            each(self._begin, self.hosts)
        except BaseException:
            self.abandon()
            raise

    def _begin(self, host: Host) -> None:
        self.by_host[host.name] = Sampler(host)

    def stop(self) -> dict[str, NicSeries]:
        """Have each take a last sample, and return all of them by host. Raises TestbedError."""
        names = [host.name for host in self.hosts]
        return dict(zip(names, each(Sampler.stop, [self.by_host[name] for name in names]), strict=True))

    def abandon(self) -> None:
        """End them, whatever they have seen."""
        each(Sampler.abandon, self.by_host.values())

    def __enter__(self) -> Samplers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.stop()
        else:
            self.abandon()
