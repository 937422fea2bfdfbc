"""The images that the files name: from the registry, or where it cannot be reached, made of Debian's packages."""

from __future__ import annotations

import os
import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from backend.embedded.postgres import find_binaries
from tests.containers.engine import Engine
from tests.containers.shell import Failed, run
from tests.contract import compose_image, compose_spec
from tests.servers import ROOT

STANDINS = Path(__file__).with_name("standins")
LIBRARIES = (
    "ca-certificates,netbase,tzdata,libssl3t64,libffi8,libsqlite3-0,libbz2-1.0,liblzma5,libreadline8t64,libexpat1,"
    "zlib1g,libuuid1,libncursesw6,libcrypt1"
)
ROOTS = {"trixie": LIBRARIES, "sid": "rabbitmq-server"}
LEFT_OUT = (
    "./var/cache/apt/*",
    "./var/lib/apt/lists/*",
    "./usr/share/doc/*",
    "./usr/share/man/*",
    "./usr/share/locale/*",
)
NOT_OF_PYTHON = shutil.ignore_patterns("test", "idlelib", "__pycache__", "*.a", "share", "_tkinter*")


def bases() -> dict[str, str]:
    """What each kind of server is called in the files."""
    services = compose_spec.load(ROOT / "docker-compose.yml")["services"]
    python = re.search(r"(?m)^ARG PYTHON_IMAGE=(\S+)$", compose_image.DOCKERFILE.read_text())
    assert python
    return {"python": python[1], "rabbitmq": services["rabbitmq"]["image"], "postgres": services["postgres"]["image"]}


def prepare(engine: Engine) -> str:
    """Have all of them; where they came from."""
    missing = {kind: name for kind, name in bases().items() if not engine.has(name)}
    made = [kind for kind, name in missing.items() if not _pull(engine, name)]
    if made:
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda release: _import(engine, release, ROOTS[release]), ROOTS))
        for kind in made:
            _stand_in(engine, kind, missing[kind])
    _plugins(engine)
    return f"made here: {', '.join(made)}" if made else "they were there" if not missing else "pulled"


def build(engine: Engine, folder: Path, tag: str) -> str:
    """Build our image from this folder; its size, and that of the layers above the dependencies."""
    engine.docker("build", "--network=host", "-f", folder / "backend/Dockerfile", "-t", tag, folder, seconds=900)
    layers = engine.docker("history", "--human=false", "--format={{.Size}} {{.CreatedBy}}", tag).splitlines()
    code = sum(int(layer.split()[0]) for layer in layers[: _above_dependencies(layers)])
    size = int(engine.docker("image", "inspect", "--format={{.Size}}", tag))
    return f"{size / 1e6:.0f} MB, of which a change of the code remakes {code / 1e6:.1f}"


def _above_dependencies(layers: list[str]) -> int:
    return next(number for number, layer in enumerate(layers) if "/opt/venv /opt/venv" in layer)


def _pull(engine: Engine, name: str) -> bool:
    return not run("docker", "pull", "-q", name, env=engine.environment, seconds=300, codes=(0, 1)).returncode


def _import(engine: Engine, release: str, packages: str) -> None:
    """Debian's own packages as an image without parent."""
    root = engine.place / release
    if not (root / "done").exists():
        shutil.rmtree(root, ignore_errors=True)
        run(
            "debootstrap",
            "--variant=minbase",
            f"--include={packages}",
            release,
            root,
            env=engine.environment,
            seconds=600,
        )
        (root / "done").touch()
    tar = engine.place / f"{release}.tar"
    run(
        "tar",
        "-C",
        root,
        *(f"--exclude={path}" for path in LEFT_OUT),
        "-cf",
        tar,
        ".",
        env=engine.environment,
        seconds=120,
    )
    engine.docker("import", tar, f"standin-{release}", seconds=120)
    tar.unlink()


def _stand_in(engine: Engine, kind: str, name: str) -> None:
    context = engine.place / "context"
    shutil.rmtree(context, ignore_errors=True)
    shutil.copytree(STANDINS / kind, context)
    if kind == "python":
        shutil.copytree(_python(), context / "prefix", symlinks=True, ignore=NOT_OF_PYTHON)
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", context)
        settings = Path("/etc/pip.conf")
        (context / "pip.conf").write_text(settings.read_text() if settings.exists() else "")
    if kind == "postgres":
        server = find_binaries().parent  # PACKAGE/pginstall, whose libraries are in PACKAGE.libs
        for part in (server, server.parent.with_name(f"{server.parent.name}.libs")):
            shutil.copytree(part, context / "server" / part.relative_to(server.parents[1]), symlinks=True)
    engine.docker("build", "--network=host", "-t", name, context, seconds=300)


def _python() -> Path:
    """A Python 3.12 of this machine that can be moved, as pyenv's are."""
    places = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = sorted(places.glob("3.12.*"))
    if not found:
        raise Failed(f"no registry answers, and {places} has no Python 3.12 to make an image of: pyenv install 3.12")
    return found[-1]


def _plugins(engine: Engine) -> None:
    """`docker compose` and BuildKit's client, of Debian trixie where this machine has none."""
    if not run("docker", "compose", "version", env=engine.environment, codes=(0, 1, 125)).returncode:
        return
    root, unpacked = engine.place / "trixie", engine.place / "unpacked"
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    fetch = "apt-get update -qq && cd /tmp && apt-get download -qq docker-compose docker-buildx"
    run("chroot", root, "sh", "-c", fetch, env=engine.environment, seconds=180)
    for package in (root / "tmp").glob("docker-*.deb"):
        run("dpkg-deb", "-x", package, unpacked, env=engine.environment)
    plugins = engine.place / "client" / "cli-plugins"
    shutil.copytree(unpacked / "usr/libexec/docker/cli-plugins", plugins, dirs_exist_ok=True)
