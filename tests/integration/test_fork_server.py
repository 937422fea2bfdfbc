"""The fork server: what it begins is as separate as a program of its own, and nothing is lost or left when it dies."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import entry_points
from itertools import pairwise
from pathlib import Path

import pytest

from backend.embedded import fork_server, forks, spawn
from backend.embedded.errors import EmbeddedError
from backend.embedded.supervisor import program
from tests.servers import ROOT
from tests.waiting import until

WAITS = "import signal; print('ready', flush=True); signal.pause()"
ENDS = """
import atexit, os, sys, threading
from backend.embedded import fork_server

class Kept:
    def __del__(self):
        print("freed")

def at_the_end_of_main():
    threading.main_thread().join()
    print("thread")

def main():
    atexit.register(print, "at exit")
    threading.Thread(target=at_the_end_of_main).start()
    END

ending, kept = fork_server.Ending(), Kept()
request = fork_server.Request(["command"], dict(os.environ), ".", 15, False, None)
fork_server.call(request, ending, "__main__", "main")
"""
NOWHERE = "postgresql://user:word@127.0.0.1:9/nowhere"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def relay(log: Path, tmp_path: Path) -> Iterator[spawn.Process]:
    """A command that is called in a fork; it waits for its database for ever."""
    environment = {**os.environ, "DATABASE_URL": NOWHERE, "LOG_FORMAT": "json"}
    process = spawn.spawn([program("citycache"), "relay"], log=log, env=environment, cwd=tmp_path)
    until(lambda: "relay waits" in log.read_text(), 30)
    yield process
    process.kill()
    process.wait()


def run(*code: str, log: Path, **environment: str) -> int:
    command = [sys.executable, "-c", "\n".join(code)]
    return spawn.spawn(command, log=log, env={**os.environ, **environment}).wait(30)


def waiting(log: Path) -> spawn.Process:
    process = spawn.spawn([sys.executable, "-c", WAITS], log=log)
    until(lambda: "ready" in log.read_text(), 30)
    return process


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


class TestACommandThatIsCalled:
    def test_has_the_environment_and_the_folder_it_was_given(self, relay: spawn.Process, log: Path, tmp_path: Path):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        assert any('"127.0.0.1", port 9' in line["message"] for line in lines)
        assert Path(f"/proc/{relay.pid}/cwd").readlink() == tmp_path

    def test_is_a_process_that_an_operator_recognises(self, relay: spawn.Process):
        assert spawn.command_line(relay.pid).rstrip() == f"{sys.executable} {program('citycache')} relay"
        assert Path(f"/proc/{relay.pid}/comm").read_text() == "citycache\n"
        assert os.getsid(relay.pid) == relay.pid

    def test_holds_nothing_of_the_servers(self, relay: spawn.Process, log: Path):
        files = {int(file.name): str(file.readlink()) for file in Path(f"/proc/{relay.pid}/fd").iterdir()}
        assert {number: files[number] for number in (0, 1, 2)} == {0: "/dev/null", 1: str(log), 2: str(log)}
        assert not [name for number, name in files.items() if number > 2 and not name.startswith("anon_inode")]

    def test_shares_what_is_loaded(self, relay: spawn.Process):
        assert forks.forks.pid == parent(relay.pid)
        memory = Path(f"/proc/{relay.pid}/smaps_rollup").read_text().split()
        sizes = {name: int(size) for name, size in pairwise(memory) if size.isdigit()}
        assert sizes["Private_Dirty:"] < sizes["Rss:"] / 2

    def test_ends_politely(self, relay: spawn.Process, log: Path):
        relay.terminate()
        assert relay.wait(10) == 0
        assert "relay stopped" in log.read_text()

    def test_ends_with_its_exit_code(self, log: Path):
        wrong = spawn.spawn([program("citycache"), "nonsuch"], log=log)
        assert wrong.wait(30) == 2
        assert "No such command 'nonsuch'" in log.read_text()

    def test_that_is_a_module_finds_its_own_arguments(self, log: Path):
        assert spawn.spawn([sys.executable, "-m", "celery", "--version"], log=log).wait(60) == 0
        assert spawn.spawn([program("pytest"), "-m", "celery", "--version"], log=log).wait(60) == 0
        assert log.read_text().splitlines()[-1].startswith("pytest ")

    def test_is_executed_where_its_environment_is_for_a_new_program_only(self, log: Path):
        environment = {**os.environ, "PYTHONVERBOSE": "1"}
        assert spawn.spawn([program("citycache"), "--help"], log=log, env=environment).wait(60) == 0
        assert "import 'site'" in log.read_text()


class TestAProgram:
    def test_tells_its_exit_code_or_the_signal_that_ended_it(self, log: Path):
        assert run("raise SystemExit(7)", log=log) == 7
        assert run("import os; os.kill(os.getpid(), 9)", log=log) == -9

    def test_has_the_environment_it_was_given_and_no_other_files(self, log: Path):
        assert (
            run("import os; print(os.environ['WORD'], sorted(os.listdir('/proc/self/fd')))", log=log, WORD="one") == 0
        )
        assert log.read_text().split(" ", 1) == ["one", "['0', '1', '2', '3']\n"]  # the last one is the folder itself

    def test_may_tell_its_errors_apart(self, log: Path, tmp_path: Path):
        code = "import os, sys; print(sorted(os.listdir('/proc/self/fd'))); print('wrong', file=sys.stderr)"
        errors = tmp_path / "errors"
        assert spawn.spawn([sys.executable, "-c", code], log=log, errors=errors).wait(30) == 0
        assert (log.read_text(), errors.read_text()) == ("['0', '1', '2', '3']\n", "wrong\n")

    @pytest.mark.parametrize("argv", [["/nowhere/program"], ["nonsuch"]])
    def test_that_is_not_there_is_told_in_the_log(self, argv: list[str], log: Path):
        assert spawn.spawn(argv, log=log).wait(10) == 126
        assert log.read_text() == f"cannot run {argv[0]}: No such file or directory\n"

    def test_whose_folder_is_not_there_is_told_in_the_log(self, log: Path):
        assert spawn.spawn(["true"], log=log, cwd=Path("/nowhere")).wait(10) == 126
        assert log.read_text() == "cannot work in /nowhere: No such file or directory\n"

    def test_that_runs_is_waited_for_only_so_long(self, log: Path):
        process = waiting(log)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.05)
        process.kill()
        assert process.wait(10) == -9

    @pytest.mark.timeout(60)
    def test_that_ends_is_noticed_by_who_waits_for_any_end(self, log: Path):
        process = waiting(log)
        spawn.await_an_end(0.05)
        assert process.poll() is None
        process.kill()
        spawn.await_an_end(3600)
        assert process.wait(10) == -9

    def test_that_has_ended_is_no_news_again_and_again(self, log: Path):
        process = spawn.spawn(["true"], log=log)
        until(lambda: not spawn.is_running(process.pid))
        spawn.await_an_end(3600)
        begun = time.monotonic()
        spawn.await_an_end(0.3)
        assert time.monotonic() - begun > 0.25


class TestTheServer:
    @pytest.fixture
    def own(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[forks.Forks]:
        """One that nothing else was begun by: what a fork server began ends with it."""
        own = forks.Forks()
        monkeypatch.setattr(spawn, "forks", own)
        yield own
        own.end()

    def test_takes_along_what_it_began_when_it_is_killed_and_is_followed_by_another(self, own: forks.Forks, log: Path):
        process, killed = waiting(log), own.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        assert process.wait(10) == spawn.UNKNOWN_END
        assert not spawn.is_running(process.pid)
        assert run("raise SystemExit(7)", log=log) == 7
        assert own.pid not in (None, killed)

    def test_is_replaced_when_it_stands_still(self, own: forks.Forks, log: Path, monkeypatch: pytest.MonkeyPatch):
        process, still = waiting(log), own.pid
        monkeypatch.setattr(forks, "PATIENCE", 5.0)
        assert still is not None
        os.kill(still, signal.SIGSTOP)
        assert run("raise SystemExit(7)", log=log) == 7
        assert process.wait(10) == spawn.UNKNOWN_END
        assert not spawn.is_running(still)

    def test_that_cannot_begin_is_told(self, own: forks.Forks, log: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(forks, "MODULE", "backend.nonsuch")
        with pytest.raises(EmbeddedError, match="3 fork servers ended or stood still when asked for true"):
            spawn.spawn(["true"], log=log)

    def test_that_cannot_fork_says_so_and_goes_on(self, own: forks.Forks, log: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(forks, "MODULE", "tests.failing_fork_server")
        process = waiting(log)
        with pytest.raises(EmbeddedError, match="true cannot be begun; its log says why"):
            spawn.spawn(["true"], log=log)
        assert "BlockingIOError" in log.read_text()
        assert run("raise SystemExit(7)", log=log) == 7
        assert process.poll() is None
        process.kill()

    def test_outlives_an_owner_that_can_open_no_more_files(self, log: Path):
        code = f"""if True:
            import os, pathlib, resource, sys
            from backend.embedded import spawn
            from backend.embedded.errors import EmbeddedError
            log = pathlib.Path(sys.argv[1])
            process = spawn.spawn([sys.executable, "-c", {WAITS!r}], log=log)
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            held = []
            try:
                while True:
                    held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                os.close(held.pop())  # for the log
            try:
                spawn.spawn(["true"], log=log)
            except EmbeddedError as failure:
                print(failure, process.poll())
            for file in held:
                os.close(file)
            print(spawn.spawn(["true"], log=log).wait(30), process.poll())"""
        done = subprocess.run(
            [sys.executable, "-c", code, str(log)], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.splitlines() == ["true cannot be begun: Too many open files None", "0 None"]

    def test_ends_with_its_owner_and_so_does_what_it_began(self, log: Path):
        code = (
            "import os, sys, pathlib\n"
            "from backend.embedded import forks, spawn\n"
            f"process = spawn.spawn([sys.executable, '-c', {WAITS!r}], log=pathlib.Path(sys.argv[1]))\n"
            "print(process.pid, forks.forks.pid, flush=True); os.kill(os.getpid(), 9)"
        )
        owner = subprocess.run(
            [sys.executable, "-c", code, str(log)], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
        )
        assert owner.returncode == -signal.SIGKILL, owner.stderr
        began, server = map(int, owner.stdout.split())
        assert spawn.wait_until_gone([began, server], 5)

    def test_loads_beforehand_what_reads_no_setting_and_starts_no_thread(self):
        code = (
            "import gc, os, sys\n"
            "gc.freeze()  # as Python 3.12 does by itself\n"
            "from backend.embedded import fork_server\n"
            "fork_server.preload()\n"
            "assert set(fork_server.PRELOADED) <= set(sys.modules)\n"
            "from backend.app.settings import settings\n"
            "print(settings.cache_info().misses, len(os.listdir('/proc/self/task')))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
        )
        assert done.stdout.split() == ["0", "1"]

    @pytest.mark.parametrize(
        ("end", "code", "told"),
        [
            ("return 7", 7, "thread, at exit"),
            ("return None", 0, "thread, at exit"),
            ("sys.exit('a sentence')", 1, "thread, at exit, freed"),
            ("1 / 0", 1, "thread, at exit, freed"),
        ],
    )
    def test_ends_a_command_as_python_would_but_frees_nothing(self, end: str, code: int, told: str):
        done = subprocess.run(
            [sys.executable, "-c", ENDS.replace("END", end)], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout.split("\n")[:-1]) == (code, told.split(", ")), done.stderr

    def test_calls_what_the_scripts_of_its_commands_call(self):
        scripts = {script.name: script.value for script in entry_points(group="console_scripts")}
        for name, (module, function) in fork_server.COMMANDS.items():
            if "." not in name:
                assert scripts[name] == f"{module}:{function}"
            assert callable(getattr(importlib.import_module(module), function))
