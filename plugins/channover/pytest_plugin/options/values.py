"""What channover's options were given, and the settings that they make: checked before anything is done."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from channover.errors import TestbedError, UsageError
from channover.pytest_plugin.options import names as words
from channover.pytest_plugin.options.command_line import LAB, WAIT
from channover.run import own_targets
from channover.run.defaults import KERNEL, OWNERS, PCAP
from channover.run.settings import Settings, link_of, require_driver
from channover.run.target_choice import Place, check_owners, chosen

if TYPE_CHECKING:
    from channover.targets.inventory.schema import LabEntry

LABGRID = "labgrid://"


def read(config: pytest.Config) -> Settings:
    """Return the run's settings. Raises UsageError with one clear line; no host is contacted."""
    place = _place(config)
    driver = str(words.value(config, "--lag-driver"))
    require_driver(driver)
    pcap = str(words.value(config, "--pcap"))
    if pcap not in PCAP:
        raise UsageError(f"--pcap: there is no '{pcap}'; there are: {', '.join(PCAP)}")
    if not re.fullmatch(r"[2-8]", str(words.value(config, "--members"))):
        raise UsageError(f"--members: '{words.value(config, '--members')}' is no number of a LAG's links from 2 to 8")
    reports = words.value(config, "--reports")
    _require_summary(config)
    return Settings(
        place=place,
        link=link_of(
            words.value(config, "--link-rate"),
            place,
            family=str(words.value(config, "--family")),
            mtu=words.value(config, "--mtu"),
        ),
        asked=words.value(config, "--link-rate") is not None,
        lag_driver=driver,
        duration=_seconds(config, "--duration"),
        limit=_seconds(config, "--measure-limit") or 10.0,
        soak=_seconds(config, "--soak"),
        strict=bool(words.value(config, "--no-skips")),
        reports=Path(str(reports)) if reports else config.rootpath / "reports",
        pcap=pcap,
        pcap_size=_bytes(config, "--pcap-size"),
    )


def _require_summary(config: pytest.Config) -> None:
    """Raise UsageError where ``--summary`` names what cannot be a file: at the end of a run it is too late."""
    if wanted := words.value(config, "--summary"):
        path = Path(config.invocation_params.dir, wanted)
        if path.is_dir() or not path.parent.is_dir():
            raise UsageError(f"--summary: {wanted} is a folder, or lies in none: name a file in a folder that is there")


def _seconds(config: pytest.Config, option: str) -> float | None:
    value = words.value(config, option)
    if value is None:
        return None
    if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", str(value)) or not 1 <= float(value) <= 86_400:
        raise UsageError(f"{option}: '{value}' is no number of seconds from 1 to 86400")
    return float(value)


def _bytes(config: pytest.Config, option: str) -> int:
    value = str(words.value(config, option))
    if not re.fullmatch(r"[0-9]{1,6}", value) or not 14 <= int(value) <= 262_144:
        raise UsageError(f"{option}: '{value}' is no number of bytes from 14 to 262144")
    return int(value)


def _place(config: pytest.Config) -> Place:
    """Return where labs come from. Raises UsageError; no host is contacted."""
    target = str(words.value(config, "--target"))
    own_targets.require(target)
    check_owners(target, {option: words.value(config, option) or None for option in OWNERS})
    for option in ("--keep-lab", "--dry-run"):
        if words.value(config, option) and _workers(config):
            raise UsageError(f"{option} shows what a single process does, and workers cannot be seen: use -n 0")
    lab, labs = _labs(config) if target == "physical" else (None, ())
    wait = str(words.value(config, "--lease-wait") or 0)
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", wait):
        raise UsageError(f"--lease-wait: '{wait}' is no number of seconds")
    return Place(
        target=target,
        lab=lab,
        labs=labs,
        lease_wait=max(float(wait), getattr(config, "workerinput", {}).get(WAIT, 0.0)),
        kernel=str(words.value(config, "--kernel") or KERNEL),
        keep_lab=bool(words.value(config, "--keep-lab")),
        dry_run=bool(words.value(config, "--dry-run")),
        options={one.name: words.value(config, one.name) for one in own_targets.options_of(target)},
    )


def _labs(config: pytest.Config) -> tuple[LabEntry, tuple[str, ...]]:
    """Return this process's lab of the inventory, and the names of all: each xdist worker has one of its own."""
    path = words.value(config, "--inventory")
    if path is None:
        raise UsageError("--target=physical needs --inventory FILE: 'channover inventory discover' begins one")
    if str(path).startswith(LABGRID):
        return _reserved(config, str(path))
    from channover.targets.inventory.schema import load

    labs = load(Path(str(path))).labs
    name, workers = getattr(config, "workerinput", {}).get(LAB, words.value(config, "--lab")), _workers(config)
    if name is not None:
        labs = {name: chosen(labs, name, str(path))}
    if workers > len(labs):
        one = f"{len(labs)} lab{'s' if len(labs) > 1 else ''}"
        raise UsageError(
            f"-n {workers}: {path} has {one}, and each worker needs a lab of its own; -n {len(labs)} at most"
        )
    return (next(iter(labs.values())) if workers else chosen(labs, None, str(path))), tuple(labs)


def _reserved(config: pytest.Config, url: str) -> tuple[LabEntry, tuple[str, ...]]:
    """Return this process's lab and the names of all, of places that a coordinator gives; who only looks takes none."""
    from channover.targets.labgrid import places

    if words.value(config, "--lab") is not None:
        raise UsageError("--lab chooses of a file's labs, and a place of labgrid names its own: leave it out")
    source, name = places.source(url), getattr(config, "workerinput", {}).get(LAB)
    try:
        if name is not None:  # the controller holds it
            labs = places.looked_up(source.named(name))
        elif config.option.collectonly or words.value(config, "--dry-run"):
            labs = places.looked_up(source)
        else:
            held = places.reserved(
                source, max(_workers(config), 1), lambda text: print(text, file=sys.stderr, flush=True)
            )
            config.stash[words.HELD] = held
            config.add_cleanup(held.release)
            labs = held.labs
    except TestbedError as error:
        raise UsageError(str(error)) from None
    return next(iter(labs.values())), tuple(labs)


def _workers(config: pytest.Config) -> int:
    """Return how many xdist workers this controller will start, ``--tx 2*popen`` being two; 0 without them."""
    if hasattr(config, "workerinput") or getattr(config.option, "dist", "no") == "no":
        return 0
    found = [re.match(r"(\d+)\*", spec) for spec in config.option.tx]
    return sum(int(many[1]) if many else 1 for many in found)
