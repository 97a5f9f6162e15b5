"""Nobody else's code: not from the folder where channover is started, nor from one that others were in before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from channover import isolated, ownership
from channover.errors import UsageError
from channover.hosts.netns.client import ForkServer
from channover.hosts.vm import kernel_images as kernels
from channover.report.allure import generator
from channover.report.allure.plot_process import Plotter
from channover.report.allure.plot_process import missing as not_drawn
from channover.run import kept_labs as kept

STRANGER = 65534
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="plants what another user owns: run as root")
BIN = Path(sys.executable).parent


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder in which somebody has put modules with the names of others."""
    for name in ("select", "socket", "json", "pickle", "pyroute2", "matplotlib", "channover", "virtme", "pip"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'ran')!r}, 'w').write({name!r})\nraise SystemExit(9)\n"
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(folder: Path) -> str | None:
    return (folder / "ran").read_text() if (folder / "ran").exists() else None


@pytest.mark.parametrize("pythonpath", [None, "", ".", "shared"])
def test_a_child_takes_no_module_from_the_current_folder(
    shared: Path, monkeypatch: pytest.MonkeyPatch, pythonpath: str | None
) -> None:
    if pythonpath is not None:
        monkeypatch.setenv("PYTHONPATH", pythonpath.replace("shared", str(shared)))
    words = isolated.python("channover.isolated", function="search_path")
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.strip() == isolated.search_path()
    assert ran(shared) is None


@pytest.mark.lab
def test_a_lab_is_made_beside_a_suite_s_own_select_py(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(shared))
    fork_server = ForkServer()
    try:
        fork_server.lab().close()
    finally:
        fork_server.close()
    assert ran(shared) is None


@pytest.mark.lab
def test_doctor_in_a_shared_folder_runs_nothing_of_it(shared: Path) -> None:
    done = subprocess.run(
        [BIN / "channover", "doctor", "--target", "netns"], capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, 1), done.stderr
    assert "MP-1" in done.stdout
    assert ran(shared) is None


def test_plots_are_drawn_beside_a_suite_s_own_modules(shared: Path) -> None:
    plotter, path = Plotter(), shared / "plot.svg"
    plotter.draw(path, {"series": [["left.a", [0.0, 1.0], [1e6, 2e6]]], "title": "x", "link_rate": 1e8, "phases": []})
    assert plotter.finish()
    assert not not_drawn(path.read_text())
    assert ran(shared) is None


def test_a_suite_with_a_select_py_passes(tmp_path: Path) -> None:
    (tmp_path / "select.py").write_text("raise SystemExit('the suite’s own file')\n")
    (tmp_path / "test_it.py").write_text("def test_it(lab):\n    assert lab.left.run('true').returncode == 0\n")
    command = [str(BIN / "pytest"), "-p", "no:cacheprovider", "--reports=r", "test_it.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_programs_are_not_looked_for_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", os.pathsep.join([".", "", "bin", "/usr/bin", str(tmp_path / "mine")]))
    assert isolated.search_path("/sbin").split(os.pathsep) == ["/usr/bin", str(tmp_path / "mine"), "/sbin"]


def test_looking_at_a_revision_runs_nothing_of_the_repository(pytester: pytest.Pytester) -> None:
    said = pytester.path / "ran"
    for words in (
        ("init", "-q"),
        ("-c", "user.name=x", "-c", "user.email=x@x", "commit", "-q", "--allow-empty", "-m", "x"),
        ("config", "core.fsmonitor", f"touch {said}; false"),
    ):
        subprocess.run(["git", *words], check=True, cwd=pytester.path)
    (pytester.path / "git").write_text(f"#!/bin/sh\ntouch {said}\n")
    (pytester.path / "git").chmod(0o755)
    os.environ["PATH"], before = f".:{os.environ['PATH']}", os.environ["PATH"]
    try:
        pytester.makepyfile("""
            from channover.testing import behaviour
            @behaviour("LAG-4")
            def test_it(lab, counted):
                assert counted("hosts", len(lab.hosts)) == 2
        """)
        pytester.runpytest_subprocess("-p", "no:cacheprovider", "--reports=r").assert_outcomes(passed=1)
    finally:
        os.environ["PATH"] = before
    assert not said.exists()
    assert list(pytester.path.glob("r/*/results.json")), "a run that looked for its revision"


# --- folders that others were in before -------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's state lies, in a folder in which anybody may make one, as /tmp is."""
    tmp_path.chmod(0o1777)
    found = tmp_path / "channover"
    monkeypatch.setattr(ownership, "runtime", lambda: found)
    return found


OFFERED = {"command": ["sh", "-c", "echo planted"], "greeting": ["left"]}


def offer(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / f"{os.getpid()}.json").write_text(json.dumps({"left": OFFERED}))


def a_folder_of_a_stranger(place: Path) -> None:
    offer(place)
    os.chown(place, STRANGER, STRANGER)


def a_folder_open_to_all(place: Path) -> None:
    offer(place)
    place.chmod(0o777)


def a_link(place: Path) -> None:
    offer(place.with_name("elsewhere"))
    place.symlink_to(place.with_name("elsewhere"))


def a_file(place: Path) -> None:
    place.write_text("{}")


def a_folder_below_a_stranger_s(place: Path) -> None:
    offer(place)
    os.chown(place.parent, STRANGER, STRANGER)


def a_folder_below_one_that_all_can_write(place: Path) -> None:
    offer(place)
    place.parent.chmod(0o777)


PLANTS = [
    a_folder_of_a_stranger,
    a_folder_open_to_all,
    a_link,
    a_file,
    a_folder_below_a_stranger_s,
    a_folder_below_one_that_all_can_write,
]


@ROOT
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_an_offer_that_may_be_somebody_else_s_is_refused(place: Path, plant: Callable[[Path], None]) -> None:
    plant(place)
    with pytest.raises(UsageError) as refused:
        kept.shell("left")
    assert str(place) in str(refused.value) and "XDG_RUNTIME_DIR" in str(refused.value)
    assert "\n" not in str(refused.value)


@ROOT
@pytest.mark.lab
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_no_lab_is_offered_where_somebody_else_could_change_it(
    place: Path, plant: Callable[[Path], None], two_hosts: object
) -> None:
    plant(place)
    with pytest.raises(UsageError, match="XDG_RUNTIME_DIR"), kept.offered(two_hosts):  # type: ignore[arg-type]
        pass


@ROOT
def test_root_is_not_told_to_set_what_root_s_folder_does_not_depend_on() -> None:
    """As the command line says it, in a /run of its own."""
    plant = 'mount -t tmpfs none /run && mkdir -m 777 /run/channover && exec "$0" shell left'
    words = ["unshare", "--mount", "--propagation", "private", "sh", "-c", plant, str(BIN / "channover")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("since /run/channover can be written by others: remove it\n")


def test_a_file_of_a_stranger_or_a_link_in_the_own_folder_is_no_offer(place: Path) -> None:
    offer(place)
    assert kept.shell("left").command == ["sh", "-c", "echo planted"]
    file = place / f"{os.getpid()}.json"
    file.rename(place.parent / "elsewhere.json")
    file.symlink_to(place.parent / "elsewhere.json")
    for words in (
        None,
        "nonsense",
        "[]",
        '{"left": "sh"}',
        '{"left": ["sh"]}',
        '{"left": {"command": [], "greeting": []}}',
        "\0",
    ):
        if words is not None:
            file.unlink()
            file.write_text(words)
        with pytest.raises(UsageError, match="no run keeps its lab"):
            kept.shell("left")
    if os.geteuid() == 0:
        offer(place)
        os.chown(file, STRANGER, STRANGER)
        with pytest.raises(UsageError, match="no run keeps its lab"):
            kept.shell("left")


def test_state_lies_where_only_its_owner_can_put_something(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert ownership.runtime() == tmp_path / "channover"
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    assert ownership.runtime() == Path.home() / ".cache/channover/run"
    monkeypatch.undo()
    if os.geteuid() == 0:
        monkeypatch.setenv("XDG_RUNTIME_DIR", "/tmp")
        assert ownership.runtime() == Path("/run/channover/.kept")


@ROOT
def test_a_cache_that_a_stranger_can_fill_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "channover/kernels/6.1/boot").mkdir(parents=True)
    os.chown(tmp_path / "channover", STRANGER, STRANGER)
    found = kernels.find("6.1")
    assert isinstance(found, str) and f"{tmp_path}/channover belongs to user {STRANGER}" in found
    assert "XDG_CACHE_HOME" in found
    monkeypatch.setenv(generator.FOLDER, str(tmp_path / "channover/allure"))
    assert f"{tmp_path}/channover belongs to user {STRANGER}" in (generator.unmet() or "")


@ROOT
def test_a_link_counts_by_whose_it_is_and_where_it_leads(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "own").mkdir(mode=0o755)
    (tmp_path / "good").symlink_to("own")
    (tmp_path / "bad").symlink_to("own")
    os.chown(tmp_path / "bad", STRANGER, STRANGER, follow_symlinks=False)
    (tmp_path / "round").symlink_to("round")
    (tmp_path / "theirs").mkdir()
    os.chown(tmp_path / "theirs", STRANGER, STRANGER)
    (tmp_path / "leads").symlink_to("theirs")
    assert ownership.complaint(tmp_path / "good/file") is None
    assert ownership.complaint(tmp_path / "absent/file") is None
    assert ownership.complaint(tmp_path / "bad/file") == f"{tmp_path}/bad belongs to user {STRANGER}"
    assert ownership.complaint(tmp_path / "leads/x") == f"{tmp_path}/theirs belongs to user {STRANGER}"
    assert "symbolic links" in (ownership.complaint(tmp_path / "round") or "")


@ROOT
@pytest.mark.lab
def test_what_another_user_may_offer_is_not_run(tmp_path: Path) -> None:
    """The command line, as root, beside a folder that a real other user has made in /tmp."""
    environment = {key: value for key, value in os.environ.items() if key != "XDG_RUNTIME_DIR"}
    said, plant = tmp_path / "ran", Path("/tmp/channover-0")
    script = 'mkdir -m 700 "$1" && printf \'{"left": ["touch", "%s"]}\' "$2" >"$1/1.json"'
    stranger = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    subprocess.run([*stranger, "sh", "-c", script, "sh", plant, said], check=True)
    try:
        done = subprocess.run([BIN / "channover", "shell", "left"], capture_output=True, text=True, env=environment)
        assert "no run keeps its lab" in done.stderr
        assert not said.exists()
    finally:
        subprocess.run(["rm", "-r", plant], check=True)
