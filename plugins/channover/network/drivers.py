"""The LAG drivers that there are, by name: the kernel's bonding, Open vSwitch, and those of other packages."""

from __future__ import annotations

import re

from channover.errors import UsageError
from channover.model.registry import Register
from channover.network.bonding import BondingDriver
from channover.network.lag import HashPolicy, LagDriver
from channover.network.openvswitch import OpenVSwitchDriver

DRIVERS: Register[LagDriver] = Register("LAG driver", {"bonding": BondingDriver(), "openvswitch": OpenVSwitchDriver()})


def add(name: str, driver: LagDriver) -> None:
    """Add a LAG driver of another package. Raises UsageError where it cannot be one."""
    where = f"LAG driver '{name}'"
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9-]*", name) or name == "auto":
        raise UsageError(f"{where}: the name is lower-case letters, digits and hyphens, as in acme, and not auto")
    if isinstance(driver, type):
        raise UsageError(f"{where}: {driver.__name__} is a class; give an object, as in {driver.__name__}()")
    parts = ("name", "needs", "policies", "checksums", "create", "create_switch")
    if missing := [part for part in parts if not hasattr(driver, part)]:
        raise UsageError(f"{where}: {type(driver).__name__} has no {', '.join(missing)}; see LagDriver")
    if driver.name != name:
        raise UsageError(f"{where}: {type(driver).__name__} has the name '{driver.name}'; they must be the same")
    if not driver.policies or not all(isinstance(one, HashPolicy) for one in driver.policies):
        raise UsageError(f"{where}: policies must be members of HashPolicy, not {driver.policies!r}")
    if isinstance(driver.needs, str) or not all(isinstance(one, str) for one in driver.needs):
        raise UsageError(f"{where}: needs must be a tuple of programs, not {driver.needs!r}")
    DRIVERS.add(name, driver)
