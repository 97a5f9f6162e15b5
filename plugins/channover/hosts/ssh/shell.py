"""How a program is started on a host behind SSH, whatever the login's shell is and says.

sshd hands a command to the login's shell (``sshd(8)``), which may be any: one with another syntax (tcsh, fish), with start-up
files that greet, trace, or set aliases and another PATH, or one that runs nothing. So the shell is asked for one thing only
that all of them understand, to run /bin/sh on a quoted word; and a line with a word of the process's own marks where its
output begins, on both streams.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Mapping, Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
PACKAGES = {"ip": "iproute2", "tc": "iproute2", "ss": "iproute2", "nft": "nftables", "ethtool": "ethtool",
            "bash": "bash", "ping": "iputils-ping", "iperf3": "iperf3", "tcpdump": "tcpdump", "flock": "util-linux",
            "setsid": "util-linux"}  # fmt: skip
"""Debian's packages of programs that hosts are asked to run."""
SUDO = "sudo"
"""The word behind the mark once the login's shell has done its part, and sudo is asked."""
PASSWORD = "password"
"""The word behind the mark where sudo asks for a password, and waits."""
KEPT = 64 * 1024
"""Bytes that are kept of what comes before the mark."""


def new_mark() -> str:
    """Return a word that no start-up file prints."""
    return f"@{secrets.token_hex(8)}"


def command_line(
    argv: tuple[str, ...],
    environment: Mapping[str, str],
    sudo: bool,
    *,
    mark: str,
    lease: str = "",
    passed: Sequence[str] = (),
) -> str:
    """Return the command for a login's shell that runs a program on a host.

    Before its output there is a line ``MARK PID`` on both streams, or ``MARK missing`` where there is no such program,
    ``MARK nosudo`` where there is no sudo; on standard error ``MARK sudo`` before sudo is asked, and ``MARK password`` each
    time that sudo asks for one, which it reads as a line of the program's input. Its exit code is the program's, or 128 and
    the number of the signal that ended it (POSIX, 2.8.2). It runs in the environment given and nothing else, but for the
    variables ``passed`` of the login's own.

    ``lease`` is a file on the host without which the program is not started, and the line is ``MARK lost``: a command
    may arrive late, and find a host that has restored itself. The shell that looks for it bears the run's token already,
    so that the end of the run either takes the file away first, or finds that shell and ends it. It joins the run's
    control group, which the guardian takes away at the end (``cgroups(7)``, version 2).
    """
    say = f"printf '\\n{mark} %s\\n'"
    guarded = (
        f"[ -e {shlex.quote(lease)} ] || {{ {say} lost; exit 127; }}; "
        "for g in /sys/fs/cgroup /sys/fs/cgroup/unified; do "  # the first is a plain folder where there is the second
        '[ ! -w "$g/cgroup.procs" ] || { g=$g/channover-$CHANNOVER_RUN; '
        '{ { [ -d "$g" ] || mkdir "$g"; } && echo 0 >"$g/cgroup.procs"; } 2>/dev/null; break; }; done; '
    )
    # "$$" would be the shell's own; another shell in its place costs an emulated machine a tenth of a command's time
    begin = f'read -r pid rest </proc/self/stat; {say} "$pid" >&2; {say} "$pid"; exec "$@"'
    inner = (guarded if lease else "") + (
        f'command -v -- "$1" >/dev/null 2>&1 || {{ {say} missing; exit 127; }}; ({begin}); exit $?'
    )
    words = ["env", "-i", *(f"{key}={value}" for key, value in environment.items())]
    kept = "".join(f' {name}="${name}"' for name in passed)
    outer = f"PATH={PATH}; LC_ALL=C; export PATH LC_ALL; "  # sudo's words are looked into
    if sudo:
        outer += f"{say} {SUDO} >&2; command -v sudo >/dev/null 2>&1 || {{ {say} nosudo; exit 127; }}; "
        words = ["sudo", "-S", "-p", f"\n{mark} {PASSWORD}\n", "--", *words]
    return _for_any_shell(f"{outer}exec {shlex.join(words)}{kept} {shlex.join(['sh', '-c', inner, 'sh', *argv])}")


def _for_any_shell(script: str) -> str:
    r"""Return a command that has /bin/sh run a script: for the Bourne family, the C shells and fish alike.

    In single quotes a C shell takes no line's end and no ``!`` as it is, and fish a backslash only before a sign that it
    does not escape (a digit). So all of these stand as ``\0ooo``, which printf's ``%b`` reads back (POSIX, printf).
    """
    plain = "".join(
        sign
        if sign.isascii() and sign.isprintable() and sign not in "'\\!"
        else "".join(f"\\0{byte:03o}" for byte in sign.encode(errors="surrogateescape"))
        for sign in script
    )
    return f"exec /bin/sh -c 'eval \"$(printf %b \"$0\")\"' '{plain}'"


class Beginning:
    """Parts what a stream says before a process's mark from what comes after it."""

    def __init__(self, mark: str) -> None:
        self._line = re.compile(rb"(?:^|\n)" + re.escape(mark.encode()) + rb" (\w+)\r?\n")
        self.before = b""
        self.word = ""
        """What stands behind the mark, once it was seen."""
        self.asked = False
        """Whether sudo was asked: ``before`` is then what it said."""
        self.prompts = 0
        """How often sudo has asked for a password."""

    def take(self, data: bytes) -> bytes:
        """Take data as it comes, and return what belongs to the program."""
        if self.word:
            return data
        self.before += data
        while (match := self._line.search(self.before)) and (word := match[1].decode()) in (SUDO, PASSWORD):
            said = self.before[: match.start()] if word == PASSWORD else b""
            self.asked = True
            self.prompts += word == PASSWORD
            self.before = said + b"\n" + self.before[match.end() :]
        if match is None:
            self.before = self.before[-KEPT:]
            return b""
        self.word = match[1].decode()
        rest = self.before[match.end() :]
        self.before = self.before[: match.start()]
        return rest


_HARMLESS = re.compile(
    r"unable to resolve host|^\+|^We trust you|^\s*#\d\)|^Administrator\. It usually|^For security reasons"
)
"""Lines beside the point: sudo's remark and its lecture, a shell's trace."""
_REFUSED = re.compile(r"^Sorry, try again.*", re.MULTILINE)
"""What sudo says of a password that it refuses."""
_SUDO: tuple[tuple[str, str], ...] = (
    (r"must have a tty", "it asks for a terminal (requiretty): add 'Defaults:{user} !requiretty' to sudoers(5)"),
    (r"no new privileges|effective uid|setuid root|nosuid", "sudo cannot work there: log in as root"),
    (r"[Aa]ccount|expired", "mend the account there (chage -l {user}), or log in as root"),
    (
        r"password|terminal|not in the sudoers|not allowed|may not run",
        "allow it without a password ('{user} ALL=(ALL) NOPASSWD: ALL' in sudoers(5)), or log in as root",
    ),
    (
        r"[Pp]ermission denied",
        "commands may start no others (noexec): allow it in sudoers(5) (EXEC), or log in as root",
    ),
)
"""What sudo says, and the remedy."""


def untold(user: str, said: str, why: str) -> str:
    """Return why sudo, which asks for a password, was told none, after what else it said, and the remedy."""
    words = _words(_REFUSED.sub("", said))
    remedy = f"allow it without a password ('{user} ALL=(ALL) NOPASSWD: ALL' in sudoers(5))"
    return f"{words}{'; ' if words else ''}{why}; or {remedy}"


def _words(said: str) -> str:
    lines = [line for line in said.splitlines() if line.strip() and not _HARMLESS.search(line)]
    return " ".join(" ".join(lines).split())[:300]


def refused(user: str, sudo: bool, said: str, code: int | None) -> str:
    """Return why a program was not started, and the remedy, from what the shell, or ``sudo``, said instead."""
    words = _words(said)
    if code is None or code < 0:
        return f"the connection is lost{f' ({words})' if words else ''}"
    if sudo:
        for pattern, remedy in _SUDO:
            if re.search(pattern, words):
                return f"{words}; {remedy.format(user=user)}"
        return f"{words}; see sudo(8) there, or log in as root"
    kind = "as nologin(8) does" if "not available" in words else "as false(1) does" if not words and code == 1 else ""
    how = f"it says '{words}'" if words else f"it ends with code {code}"
    return (
        f"the login shell of {user} runs no command: {how}{f', {kind}' if kind else ''}; give {user} another one there "
        f"(chsh -s /bin/sh {user}), or see its start-up files and what sshd forces on it (ForceCommand, authorized_keys)"
    )
