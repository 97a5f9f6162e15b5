"""What a login takes from the user's own SSH configuration, beside where to and as whom (``ssh_config(5)``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class OwnSettings:
    """Settings that stand in no inventory. Empty ones mean what ``ssh`` does without them."""

    name: str = ""
    """The host's name for the configuration, where it has another address."""
    jumped: bool = False
    """Whether this is a host on the way that the configuration names."""
    identities: tuple[Path, ...] = ()
    """Private keys' files (``IdentityFile``)."""
    identities_only: bool = False
    """Whether an agent's other keys are not to be tried (``IdentitiesOnly``)."""
    agent: str = ""
    """The agent's socket, ``none``, or the variable that names it (``IdentityAgent``)."""
    forwards_agent: bool = False
    """Whether programs on the host may ask the agent (``ForwardAgent``), as a sudo may that takes keys (pam_ssh_agent_auth)."""
    known_hosts: tuple[Path, ...] = ()
    """Files of trusted host keys (``UserKnownHostsFile`` and ``GlobalKnownHostsFile``)."""
    key_alias: str = ""
    """The name that the host has in them (``HostKeyAlias``)."""
    command: str = ""
    """What carries the connection, for a shell (``ProxyCommand``)."""
