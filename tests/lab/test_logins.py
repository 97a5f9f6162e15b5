"""Whatever a login's shell, its start-up files and sudo are: a program starts, or one line says what to mend there.

The shells and sudo are real ones, in the namespace of a lab whose /etc/passwd and /etc/sudoers are its own.
"""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from channover.errors import TestbedError
from channover.hosts.host import until
from channover.hosts.lab import Lab
from channover.hosts.netns.host import NamespaceHost
from channover.hosts.ssh.connection import SshLink
from channover.hosts.ssh.own_settings import OwnSettings
from channover.hosts.ssh.process import RemoteProcess, connection_of
from channover.hosts.ssh.shell import PATH, refused
from channover.hosts.ssh.sudo import SudoPasswords
from tests.support.sshd import Server

pytestmark = pytest.mark.lab

ODD = ("it's §!", "", "two\nlines\n", "back\\slash \\\\ \\n \\'", '$HOME `id` "x" {a,b} * ~ %s', "!! !$ #1")
"""Words that one shell or another takes for something else."""


@pytest.fixture
def server(two_hosts: Lab, tmp_path: Path) -> Server:
    assert isinstance(two_hosts.left, NamespaceHost)
    return Server(two_hosts.left, tmp_path)


def run(link: SshLink, *argv: str, sudo: bool = False, input: str = "") -> RemoteProcess:
    """Run a program to its end, as all that runs on a host behind SSH is started."""
    process = RemoteProcess(link, argv, {"PATH": PATH, "LC_ALL": "C.UTF-8"}, lambda *_: None, sudo=sudo)
    process.begun(30.0)
    process.feed(input)
    process.close_input()
    process.wait(30.0)
    return process


def runs(link: SshLink, *, sudo: bool = False) -> None:
    """See that a program gets its words, its input and its streams, and gives its code, and nothing comes besides."""
    script = 'for word; do printf "[%s]" "$word"; done; cat; echo "a b" >&2; exit 5'
    done = run(link, "sh", "-c", script, "sh", *ODD, sudo=sudo, input="in\n!§'\\\n")
    assert done.stdout == "".join(f"[{word}]" for word in ODD) + "in\n!§'\\\n"
    assert (done.stderr, done.poll()) == ("a b\n", 5)
    assert run(link, "sh", "-c", 'echo "$$"', sudo=sudo).stdout.strip().isdigit()
    assert run(link, "sh", "-c", "kill -TERM $$", sudo=sudo).poll() == -15
    with pytest.raises(TestbedError, match="cannot run 'no-such-program': there is none"):
        run(link, "no-such-program", sudo=sudo)


SHELLS = {"bash": "bash", "dash": "dash", "tcsh": "tcsh", "csh": "csh", "fish": "fish", "zsh": "zsh"}
"""Login shells, and their packages."""


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"there is no {name}: apt-get install {SHELLS[name]}")
    return path


@pytest.mark.parametrize("name", [*SHELLS, "ash"])
def test_a_program_starts_whatever_the_login_shell_is(server: Server, name: str) -> None:
    path = f"{server.host.folder}/ash" if name == "ash" else shell(name)
    if name == "ash":  # as on Alpine: BusyBox tells what to be by its name
        server.host.run("ln", "-s", shutil.which("busybox") or pytest.skip("there is no busybox"), path)
    server.user(path)
    link = server.link()
    assert run(link, "printenv", "SHLVL", "HOME").stdout.startswith(("", "1"))
    runs(link)
    assert len(connection_of(link).split()) == 4 or connection_of(link).startswith("UNKNOWN")
    link.close()


START_UP = {
    "greets": "echo Welcome",
    "greets without a line's end": "printf Welcome",
    "greets like one of our own": "echo @123; echo; echo @missing",
    "greets with colours": r"printf '\033[31mWelcome\033[0m \033]0;title\007\r\n'",
    "greets at length": "head -c 300000 /dev/zero | tr '\\0' x",
    "greets on standard error": "echo Welcome >&2; printf unended >&2",
    "traces": "PS4='$(echo +trace) '; set -x",
    "traces for its children": "set -x; export SHELLOPTS",
    "ends at the first failure": "set -e -u -o pipefail",
    "has aliases": "shopt -s expand_aliases; alias env=false sh=false eval=false printf=false",
    "has functions": "env() { false; }; sh() { false; }; printf() { false; }; export -f env sh printf",
    "goes elsewhere": "cd /proc/sys",
    "has another PATH": "export PATH=/nowhere",
    "says goodbye": "trap 'echo Bye' EXIT",
    "globs and splits otherwise": "set -f; IFS=/; export IFS",
    "speaks Japanese": "export LC_ALL=ja_JP.eucjp LANG=ja_JP",
}
"""What stands in the start-up files of logins, which bash reads for sshd's commands too."""


@pytest.mark.parametrize("lines", START_UP.values(), ids=START_UP.keys())
def test_a_start_up_file_hinders_nothing(server: Server, lines: str) -> None:
    server.host.write(f"{server.host.folder}/.bashrc", lines + "\n")
    link = server.link()
    runs(link)
    assert len(connection_of(link).split()) == 4 or connection_of(link).startswith("UNKNOWN")
    link.close()


@pytest.mark.parametrize(
    ("name", "file", "lines"),
    [
        ("tcsh", ".tcshrc", "echo Welcome\nalias sh false\nalias env false\nset echo verbose\nsetenv PATH /nowhere\n"),
        (
            "fish",
            ".config/fish/config.fish",
            "echo Welcome\nalias sh=false\nfunction env; false; end\nset -gx PATH /no\n",
        ),
        ("zsh", ".zshenv", "echo Welcome\nalias sh=false env=false\nset -x\nsetopt no_nomatch ksh_arrays\n"),
    ],
)
def test_start_up_files_of_other_shells_hinder_nothing(server: Server, name: str, file: str, lines: str) -> None:
    server.user(shell(name))
    host = server.host
    host.run("mkdir", "-p", os.path.dirname(f"{host.folder}/{file}"))
    host.write(f"{host.folder}/{file}", lines)
    link = server.link()
    runs(link)
    link.close()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        (
            "/usr/sbin/nologin",
            r"the login shell of root runs no command: it says 'This account.*', as nologin\(8\) does; give",
        ),
        (
            "/bin/false",
            r"the login shell of root runs no command: it ends with code 1, as false\(1\) does; .*chsh -s /bin/sh",
        ),
        (
            "/bin/rbash",
            r"the login shell of root runs no command: it says 'rbash: .*restricted.*'; give root another one",
        ),
        ("/bin/true", r"the login shell of root runs no command: it ends with code 0; give root another one"),
        ("/usr/bin/git-shell", r"the login shell of root runs no command: it says 'fatal: .*'; give root"),
    ],
)
def test_a_shell_that_runs_nothing_is_named(server: Server, path: str, words: str) -> None:
    if not Path(path).exists():
        pytest.skip(f"there is no {path}")
    server.user(path)
    link = server.link()
    with pytest.raises(TestbedError, match=words) as caught:
        run(link, "true")
    assert "\n" not in str(caught.value) and "did not start" in str(caught.value)
    link.close()


@pytest.mark.parametrize("lines", ["exit 3", "exec false", "echo no thanks; exit 0", "exec sleep 0"])
def test_a_start_up_file_that_ends_the_login_is_told_from_a_lost_connection(server: Server, lines: str) -> None:
    server.host.write(f"{server.host.folder}/.bashrc", lines + "\n")
    link = server.link()
    with pytest.raises(TestbedError, match=r"the login shell of root runs no command: .*start-up files"):
        run(link, "true")
    link.close()


def test_a_command_that_sshd_forces_is_named(server: Server) -> None:
    server.configure("ForceCommand echo only this")
    link = server.link()
    with pytest.raises(
        TestbedError, match=r"runs no command: it says 'only this'.*what sshd forces on it \(ForceCommand"
    ):
        run(link, "true")
    link.close()


# sudo


@pytest.fixture
def lab(server: Server) -> Server:
    """The server, with a user lab who is not root, and may use sudo as /etc/sudoers says: that file is the lab's own."""
    if os.getuid() != 0:
        pytest.skip("another user of the lab's hosts, and sudo, take root: run the tests as root")
    server.user("/bin/bash", name="lab")
    return server


def sudoers(server: Server, *lines: str) -> SshLink:
    if shutil.which("sudo") is None:
        pytest.skip("there is no sudo: apt-get install sudo")
    file = f"{server.host.folder}/sudoers"
    server.host.write(file, "\n".join(lines) + "\n", 0o440)
    server.host.run("mount", "--bind", file, "/etc/sudoers")
    return server.link(user="lab", sudo=True)


ALL = "lab ALL=(ALL) NOPASSWD: ALL"


@pytest.mark.parametrize(
    "lines",
    [
        [ALL],
        ["Defaults secure_path=/usr/bin:/bin", ALL],
        ["Defaults use_pty", ALL],
        ["Defaults lecture=always", ALL],
        ["Defaults requiretty", "Defaults:lab !requiretty", ALL],
        ["Defaults env_reset, !syslog, log_output", ALL],
    ],
)
def test_programs_run_through_sudo(lab: Server, lines: list[str]) -> None:
    link = sudoers(lab, *lines)
    runs(link, sudo=True)
    assert run(link, "id", "-u", sudo=True).stdout == "0\n"
    link.close()


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (
            ["Defaults:lab requiretty", ALL],
            r"sudo: .*must have a tty.*\(requiretty\): add 'Defaults:lab !requiretty' to sudoers",
        ),
        (
            ["lab ALL=(ALL) ALL"],
            r"sudo asks for a password, and there is no terminal .*or allow it without a password \('lab ALL=.*NOPASSWD: ALL'",
        ),
        (["root ALL=(ALL) ALL"], r"sudo asks for .*; or allow it without a password \('lab ALL="),
        (["lab ALL=(ALL) NOPASSWD: /bin/true"], r"sudo asks for .*; or allow it without a password"),
        (["Defaults noexec", ALL], r"env: .*Permission denied; commands may start no others \(noexec\)"),
        (["this is no sudoers"], r"/etc/sudoers:1.*syntax error.*; sudo asks for a password"),
    ],
)
def test_sudo_that_refuses_is_named_with_the_remedy(lab: Server, lines: list[str], words: str) -> None:
    link = sudoers(lab, *lines)
    with pytest.raises(TestbedError, match=f"did not start: {words}") as caught:
        run(link, "true", sudo=True)
    assert "\n" not in str(caught.value)
    link.close()


@pytest.fixture
def passwords(monkeypatch: pytest.MonkeyPatch) -> SudoPasswords:
    """The passwords of this process: none, and nobody to ask."""
    made = SudoPasswords(asks=False)
    monkeypatch.setattr("channover.hosts.ssh.process.PASSWORDS", made)
    return made


@pytest.mark.parametrize("more", [[], ["Defaults use_pty"], ["Defaults lecture=always", "Defaults passwd_tries=1"]])
def test_sudo_is_told_the_password_that_it_asks_for(lab: Server, passwords: SudoPasswords, more: list[str]) -> None:
    lab.user("/bin/dash", name="lab", password="s3cret §")
    link = sudoers(lab, *more, "lab ALL=(ALL) ALL")
    passwords.give("s3cret §")
    runs(link, sudo=True)
    process = RemoteProcess(link, ("cat",), {"PATH": PATH}, lambda *_: None, sudo=True)
    process.begun(30.0)
    lines = lab.host.run("sh", "-c", "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ", check=False).stdout
    assert "s3cret" not in lines and "s3cret" not in repr(vars(process)["argv"])
    process.feed("mine\n")
    process.close_input()
    assert (process.wait(10), process.stdout, process.stderr) == (0, "mine\n", "")
    lab.host.write(f"{lab.host.folder}/sudoers", f"{ALL}\n", 0o440)  # asks no more: nothing is told
    runs(link, sudo=True)
    link.close()


def test_a_password_that_sudo_refuses_is_asked_for_again_or_named(
    lab: Server, passwords: SudoPasswords, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.user("/bin/sh", name="lab", password="right")
    link = sudoers(lab, "lab ALL=(ALL) ALL")
    passwords.give("wrong")
    with pytest.raises(TestbedError, match=r"did not start: sudo refuses the password of lab@lab; or allow it without"):
        run(link, "true", sudo=True)
    asked: list[str] = []
    passwords.asks, passwords.typed = True, lambda prompt: asked.append(prompt) or "right"  # type: ignore[func-returns-value]
    monkeypatch.setattr("channover.hosts.ssh.sudo.has_terminal", lambda: True)
    for _ in range(2):
        assert run(link, "id", "-u", sudo=True).stdout == "0\n"
    assert asked == ["password of lab@lab for sudo: "], "once, and not the wrong one again"
    link.close()


def test_the_command_asks_at_the_terminal_once_and_shows_nothing(lab: Server, tmp_path: Path) -> None:
    lab.user("/bin/sh", name="lab", password="t0p-secret")
    sudoers(lab, "lab ALL=(ALL) ALL")
    with lab.listening() as port:
        options = ["--key", str(tmp_path / "client"), "--known-hosts", str(tmp_path / "known_hosts"), "--sudo"]
        command = [sys.executable, "-m", "channover.cli.main", "loopcheck", f"lab@127.0.0.1:{port}", *options]
        number, terminal = pty.fork()
        if number == 0:
            os.execv(command[0], command)
        said = b""
        while b"for sudo: " not in said:
            said += os.read(terminal, 4096)
        os.write(terminal, b"t0p-secret\n")
        with contextlib.suppress(OSError):  # the other end is closed
            while data := os.read(terminal, 4096):
                said += data
        os.close(terminal)
        text, status = said.decode(), os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    assert text.count("for sudo") == 1 and "t0p-secret" not in text
    assert status == 0, text


def test_sudo_that_takes_keys_asks_the_users_agent(
    lab: Server, passwords: SudoPasswords, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not passwords.first
    if not list(Path("/usr/lib").glob("*/security/pam_ssh_agent_auth.so")):
        pytest.skip("there is no pam_ssh_agent_auth: apt-get install libpam-ssh-agent-auth")
    host, folder = lab.host, lab.host.folder
    authorized = f"{folder}/sudo_keys"
    host.write(authorized, (lab.folder / "client.pub").read_text(), 0o644)
    host.write(f"{folder}/pam", f"auth sufficient pam_ssh_agent_auth.so file={authorized}\n@include common-account\n")
    host.run("mount", "--bind", f"{folder}/pam", "/etc/pam.d/sudo")
    link = sudoers(lab, "Defaults env_keep += SSH_AUTH_SOCK", "lab ALL=(ALL) ALL")
    with tempfile.TemporaryDirectory() as place:  # a socket's path is short (unix(7))
        monkeypatch.setenv("SSH_AUTH_SOCK", f"{place}/agent")
        agent = subprocess.Popen(["ssh-agent", "-D", "-a", f"{place}/agent"], stdout=subprocess.DEVNULL)
        try:
            until(lambda: Path(f"{place}/agent").exists(), "the agent", 10)
            subprocess.run(["ssh-add", "-q", lab.folder / "client"], check=True)
            link.login = replace(link.login, own=OwnSettings(forwards_agent=True))
            assert run(link, "id", "-u", sudo=True).stdout == "0\n"
            other = lab.link(user="lab", sudo=True)  # another connection, which sudo remembers nothing of
            with pytest.raises(TestbedError, match="did not start"):
                run(other, "id", "-u", sudo=True)
            other.close()
        finally:
            agent.kill()
            agent.wait()
    link.close()


def test_a_host_without_sudo(lab: Server) -> None:
    if (path := shutil.which("sudo")) is not None:
        lab.host.run("mount", "--bind", "/dev/null", path)
    link = lab.link(user="lab", sudo=True)
    with pytest.raises(TestbedError, match="'true' did not start: there is no sudo; install sudo, or log in as root"):
        run(link, "true", sudo=True)
    link.close()


def test_sudos_remark_about_the_hosts_name_is_no_part_of_an_answer(lab: Server) -> None:
    link = sudoers(lab, ALL)
    lab.host.run("hostname", "nowhere-to-be-found")
    assert run(link, "sh", "-c", "echo ours >&2", sudo=True).stderr == "ours\n"
    lab.host.write(f"{lab.host.folder}/sudoers", "lab ALL=(ALL) ALL\n", 0o440)
    with pytest.raises(TestbedError, match=r"did not start: sudo asks for a password, and there is no terminal"):
        run(link, "true", sudo=True)
    link.close()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Sorry, user lab is not allowed to execute '/usr/bin/env' as root on left.", "NOPASSWD: ALL"),
        ("lab is not in the sudoers file.  This incident will be reported.", "NOPASSWD: ALL"),
        ('sudo: Account expired or PAM config lacks an "account" section for sudo', "chage -l lab"),
        ("sudo: Account or password is expired, reset your password and try again", "chage -l lab"),
        ('sudo: The "no new privileges" flag is set, which prevents sudo from running as root.', "log in as root"),
        ("sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set", "log in as root"),
        ("sudo: unable to resolve host left: Name or service not known\nsudo: a password is required", "NOPASSWD"),
        ("sudo: something new", "see sudo(8) there, or log in as root"),
    ],
)
def test_what_sudo_says_is_repeated_with_the_remedy(said: str, words: str) -> None:
    why = refused("lab", True, said, 1)
    assert words in why and "\n" not in why and "resolve" not in why
    assert " ".join(said.splitlines()[-1].split())[:40] in why


def test_a_start_up_files_words_are_not_taken_for_sudos(lab: Server) -> None:
    lab.host.write(f"{lab.host.folder}/.bashrc", "echo your account has expired, a terminal is missing >&2\n")
    link = sudoers(lab, "lab ALL=(ALL) ALL")
    with pytest.raises(
        TestbedError, match=r"'true' did not start: sudo asks for a password, .*; or allow it without a password"
    ):
        run(link, "true", sudo=True)
    link.close()
