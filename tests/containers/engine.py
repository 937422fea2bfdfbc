"""A Docker engine of one's own: private socket and data, started and ended here. Needs root and Debian's docker.io."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.containers.shell import Failed, run
from tests.waiting import until

PACKAGES = ("docker.io", "debootstrap", "iptables", "docker-compose")
STARTED_WITHIN = 60.0
WANTED_FILES = 65_536  # as in the compose files


def install() -> None:
    """Install what is missing, where that is allowed; else say how."""
    needed = {"dockerd": "/usr/sbin", "debootstrap": "/usr/sbin", "iptables": "/usr/sbin", "docker": "/usr/bin"}
    if all(shutil.which(name, path=f"{os.environ['PATH']}:{place}") for name, place in needed.items()):
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    if os.geteuid() or not shutil.which("apt-get"):
        raise Failed(f"a container engine is needed, and root to start it: {' '.join(command)}")
    quiet = {**os.environ, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}  # no service is left running
    run("apt-get", "update", "-qq", env=quiet, seconds=120)
    run(*command, env=quiet, seconds=300)


@dataclass
class Engine:
    """Its images and volumes stay in `place`, so that the next start is quick."""

    place: Path
    _process: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """For its clients."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith(("COMPOSE_", "DOCKER_"))},
            "PATH": f"/usr/bin:{os.environ['PATH']}:/usr/sbin:/sbin",
            "DOCKER_HOST": f"unix://{self.place}/docker.sock",
            "DOCKER_CONFIG": str(self.place / "client"),
            "DOCKER_BUILDKIT": "1",
        }

    def start(self) -> None:
        """Return when it answers."""
        for name in ("data", "exec", "client"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        (self.place / "dockerd.pid").unlink(missing_ok=True)
        command = [
            "dockerd", f"--data-root={self.place}/data", f"--exec-root={self.place}/exec",
            f"--host=unix://{self.place}/docker.sock", f"--pidfile={self.place}/dockerd.pid",
        ]  # fmt: skip
        with (self.place / "dockerd.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until(self._answers, STARTED_WITHIN, f"dockerd answers, see {self.place}/dockerd.log")

    def stop(self) -> None:
        """Its containers end with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(120)
            self._process = None

    def docker(self, *words: object, seconds: float = 60, cwd: Path = Path("/")) -> str:
        """Run a client's command; what it printed."""
        return run("docker", *words, env=self.environment, seconds=seconds, cwd=cwd).stdout.strip()

    def has(self, image: str) -> bool:
        """Whether it has an image of this name."""
        return not run("docker", "image", "inspect", image, env=self.environment, codes=(0, 1)).returncode

    def inspect(self, project: str) -> list[dict[str, Any]]:
        """All containers of a compose project."""
        ids = self.docker("ps", "-aq", "--filter", f"label=com.docker.compose.project={project}").split()
        return json.loads(self.docker("inspect", *ids)) if ids else []

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise Failed(f"dockerd has ended, see {self.place}/dockerd.log")
        return not run("docker", "info", env=self.environment, codes=(0, 1)).returncode


def fewer_files() -> dict[str, Any] | None:
    """What goes over a compose file where this machine allows fewer open files than it wants; else None."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most == resource.RLIM_INFINITY or most >= WANTED_FILES:
        return None
    return {"services": {"rabbitmq": {"ulimits": {"nofile": most}}}}
