"""What this process may ask the kernel for: a container takes capabilities away, and root is not root then.

Sources: ``capabilities(7)``, ``proc(5)`` (``CapEff``, ``CapBnd``, ``NoNewPrivs``, ``Seccomp``), ``user_namespaces(7)``.
"""

from __future__ import annotations

import os

_NEEDED = {
    "CAP_SYS_ADMIN": (21, "makes namespaces and mounts"),
    "CAP_NET_ADMIN": (12, "makes devices and sets them up"),
}
"""What labs of namespaces take, each with its number in ``linux/capability.h``."""
_REMEDY = "give it to the container (docker run --cap-add=NET_ADMIN --cap-add=SYS_ADMIN, or --privileged)"


def status() -> dict[str, str]:
    """Return what the kernel says of this process (``/proc/self/status``), by name; nothing where it says nothing."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as file:
            return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
    except OSError:
        return {}


def lacking(known: dict[str, str], *, root: bool) -> str | None:
    """Say which capability root lacks for labs, and the remedy, in one line; None where that is not what is missing."""
    if not root or "CapEff" not in known:
        return None
    effective = int(known["CapEff"], 16)
    missing = {name: what for name, (number, what) in _NEEDED.items() if not effective >> number & 1}
    if not missing:
        return None
    names = " and ".join(f"{name} ({what})" for name, what in missing.items())
    return f"this process is root without {names}: {_REMEDY}"


def refusal(error: str) -> str:
    """Return why the kernel refuses namespaces, as far as it can be told, with the remedy."""
    known, root = status(), os.geteuid() == 0
    if reason := lacking(known, root=root):
        return f"namespaces are refused here ({error}): {reason}"
    if root:
        filtered = " under a seccomp filter" if known.get("Seccomp", "0") != "0" else ""
        return (
            f"namespaces are refused here ({error}), to root{filtered}: what runs this container or service forbids them "
            "(docker run --privileged, or --security-opt seccomp=unconfined --security-opt apparmor=unconfined)"
        )
    return (
        f"namespaces are refused here ({error}): run as root, or allow user namespaces "
        "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0)"
    )
