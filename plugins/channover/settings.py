"""What a run was asked for on the command line, checked before anything is done."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from channover.errors import UsageError
from channover.wire import Link, parse_rate

TARGETS = ("netns",)
LAG_DRIVERS = ("auto", "bonding", "openvswitch")


@dataclass(frozen=True)
class Settings:
    """The options of a run: rates in bit/s, times in seconds."""

    target: str
    link: Link
    lag_driver: str
    duration: float | None
    limit: float
    strict: bool
    reports: Path


def add_options(parser: pytest.Parser) -> None:
    """Add channover's options to pytest's command line."""
    group = parser.getgroup("channover", "channover: documented behaviours of aggregated links")
    group.addoption(
        "--target",
        default="netns",
        metavar="NAME",
        help="where labs come from: netns, network namespaces of this machine (default: %(default)s)",
    )
    group.addoption(
        "--link-rate",
        default="100mbit",
        metavar="RATE",
        help="rate of a lab's cables in tc's notation: 100mbit, 1gbit, … (default: %(default)s)",
    )
    group.addoption(
        "--lag-driver",
        default="auto",
        metavar="NAME",
        help="what makes LAGs: bonding (the kernel's), openvswitch, or auto: bonding where the kernel has it",
    )
    group.addoption(
        "--duration",
        default=None,
        metavar="SECONDS",
        help="measure each flow for so long; without it a flow ends when its verdict is settled, at 99 %% confidence",
    )
    group.addoption(
        "--measure-limit",
        default="10",
        metavar="SECONDS",
        help="the longest that a flow is measured when its verdict does not settle (default: %(default)s)",
    )
    group.addoption(
        "--reports",
        default=None,
        metavar="FOLDER",
        help="where runs leave their reports (default: reports/ in pytest's root folder)",
    )


def read(config: pytest.Config) -> Settings:
    """Return the run's settings. Raises UsageError with one clear line."""
    target = str(config.getoption("--target"))
    if target not in TARGETS:
        raise UsageError(f"--target: there is no target '{target}'; there is: {', '.join(TARGETS)}")
    try:
        rate = parse_rate(str(config.getoption("--link-rate")))
    except UsageError as error:
        raise UsageError(f"--link-rate: {error}") from None
    driver = str(config.getoption("--lag-driver"))
    if driver not in LAG_DRIVERS:
        raise UsageError(f"--lag-driver: there is no driver '{driver}'; there are: {', '.join(LAG_DRIVERS)}")
    reports = config.getoption("--reports")
    return Settings(
        target=target,
        link=Link(rate),
        lag_driver=driver,
        duration=_seconds(config, "--duration"),
        limit=_seconds(config, "--measure-limit") or 10.0,
        strict=is_strict(config),
        reports=Path(str(reports)) if reports else config.rootpath / "reports",
    )


def is_strict(config: pytest.Config) -> bool:
    """Say whether ``--strict`` was given: pytest's own option, to which channover adds that a skip is a failure."""
    return bool(getattr(config.option, "strict", False))


def _seconds(config: pytest.Config, option: str) -> float | None:
    value = config.getoption(option)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(value)) or not 1 <= float(value) <= 86_400:
        raise UsageError(f"{option}: '{value}' is no number of seconds from 1 to 86400")
    return float(value)
