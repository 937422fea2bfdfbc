"""A private RabbitMQ node: its own name, ports, cookie, port mapper and data folder, ended with its owner.

The server's script is told that systemd runs it: then it replaces itself by the Erlang machine (exec) instead
of waiting for it, so one process id leads from the script to the node, and all signals reach the node itself.
The port mapper (epmd) runs as a child of ours as well, instead of the daemon that Erlang would leave behind.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import amqp

from backend.embedded import spawn
from backend.embedded.erlang import PortMapper, find_server
from backend.embedded.errors import EmbeddedError, ServerMissing, StartFailed
from backend.embedded.secret_file import write_secret

START_PATIENCE = 60.0  # seconds
STOP_PATIENCE = 25.0
CTL_PATIENCE = 60.0
USER = "citycache"

SETTINGS: Mapping[str, str] = {
    "vm_memory_high_watermark.absolute": "1GB",
    "disk_free_limit.absolute": "50MB",
    "raft.wal_max_size_bytes": "134217728",  # quorum queues' log, held in memory; 512 MB by default
    "log.console": "true",
    "log.console.level": "info",
    "log.file": "false",
}

# RabbitMQ loads its modules one by one, each along a path of a hundred folders, and with each Erlang's table of exports
# is made anew: half of what a start costs. These applications' modules are therefore loaded beforehand, an application
# at a time; one that a version of RabbitMQ does not have is passed over.
LOADED_FIRST = (
    "kernel", "stdlib", "sasl", "compiler", "inets", "ssl", "public_key", "syntax_tools", "tools", "xmerl", "mnesia",
    "os_mon", "rabbit", "rabbit_common", "rabbitmq_prelaunch", "ra", "osiris", "cuttlefish", "ranch", "recon",
    "observer_cli", "syslog", "systemd", "jsx", "aten", "sysmon_handler", "credentials_obfuscation", "seshat",
    "stdout_formatter", "amqp10_common", "gen_batch_server",
)  # fmt: skip
FLAGS_BEFORE = "ERL_AFLAGS"  # the variable whose options come before all others
LOAD_FIRST = (  # Erlang without blanks, which would end the option, and quotes, which would be taken away
    "os:unsetenv([{variable}]),"  # else the machine that RabbitMQ starts to find epmd would load them all as well
    "[{{code:add_patha(Folder),code:ensure_modules_loaded(["
    "list_to_atom(filename:rootname(File))||File<-Files,filename:extension(File)==[$.,$b,$e,$a,$m]])}}||"
    "Name<-[{names}],Folder<-[code:lib_dir(Name,ebin)],is_list(Folder),{{ok,Files}}<-[file:list_dir(Folder)]],"
    "[erlang:garbage_collect(Process)||Process<-processes()]"
).format(variable=",".join(f"${letter}" for letter in FLAGS_BEFORE), names=",".join(LOADED_FIRST))


@dataclass(frozen=True)
class Credentials:
    """What a client needs besides host and port."""

    user: str
    password: str


class RabbitMQ:
    """One RabbitMQ node. Nodes given the same `port_mapper` and `cookie` can `join` each other."""

    name = "rabbitmq"

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        node_name: str | None = None,
        *,
        server: Path | None = None,
        credentials: Credentials | None = None,
        cookie: str | None = None,
        port_mapper: PortMapper | None = None,
        management: bool = False,
        settings: Mapping[str, str] | None = None,
        policies: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        """`settings` are lines of rabbitmq.conf over the defaults, `policies` those of the vhost `/` by name, as the
        management API takes them; the rest is found or made, then kept."""
        self.data_dir = data_dir.absolute()
        self.log = self.data_dir / "rabbitmq.log"
        self.port = port or 0
        self.management_port = 0
        self._wanted_port = port
        self._node_name = node_name
        self._server = server
        self._credentials = credentials
        self._cookie = cookie
        self._own_mapper = port_mapper is None
        self._mapper = port_mapper or PortMapper(self.data_dir / "epmd.log")
        self._management = management
        self._settings = {**SETTINGS, **(settings or {})}
        self._policies = policies or {}
        self._process: spawn.Process | None = None
        self._kept: dict[str, Any] = {}

    # What others ask

    @property
    def pid(self) -> int | None:
        """The process id of the Erlang machine, None when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def url(self) -> str:
        """The AMQP URL of the vhost `/`."""
        return self.url_of("/")

    @property
    def node(self) -> str:
        """The node's full name; on `localhost`, so that it does not depend on what this machine is called."""
        return f"{self._kept['node_name']}@localhost"

    @property
    def credentials(self) -> Credentials:
        """The administrator of this node."""
        return Credentials(self._kept["user"], self._kept["password"])

    @property
    def cookie(self) -> str:
        """The secret that the nodes of a cluster share."""
        return str(self._kept["cookie"])

    @property
    def port_mapper(self) -> PortMapper:
        """For further nodes of a cluster."""
        return self._mapper

    def url_of(self, vhost: str) -> str:
        """The AMQP URL of a vhost; `/` makes two slashes at the end, as Celery has it."""
        path = "/" if vhost == "/" else quote(vhost, safe="")
        return f"amqp://{self.credentials.user}:{self.credentials.password}@127.0.0.1:{self.port}/{path}"

    # Its life

    def start(self) -> None:
        """Start the node, return when it answers AMQP. StartFailed after 60 s."""
        self.begin()
        self.await_ready()

    def begin(self) -> None:
        """Start the node without waiting for it; does nothing when it runs."""
        if self.pid is not None:
            return
        self._prepare()
        self._end_leftover()
        self._choose_ports()
        self._mapper.start()
        self._write_definitions()
        self._write_configuration()
        environment = {**self._environment(), FLAGS_BEFORE: f"-eval {LOAD_FIRST}"}
        self._process = spawn.spawn([self._script("rabbitmq-server")], log=self.log, env=environment, cwd=self.data_dir)
        self._remember_process(self._process.pid)

    def await_ready(self) -> None:
        """Return when the node answers AMQP; StartFailed, and the node killed, after 60 s."""
        deadline = time.monotonic() + START_PATIENCE
        try:
            while not self._answers():
                self._check_progress(deadline)
                time.sleep(0.1)
        except StartFailed:
            self.kill()
            raise
        self._wanted_port = self.port  # clients know it now: after a crash it must be the same

    def stop(self) -> None:
        """Graceful: queues are closed and written. SIGKILL after 25 s. No process of the node stays."""
        self._finish(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL to the Erlang machine, as a crash would. Its port mapper goes too, unless it is shared."""
        self._finish(signal.SIGKILL)

    def __enter__(self) -> RabbitMQ:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _finish(self, how: signal.Signals) -> None:
        if self._process is not None:
            helpers = spawn.descendants(self._process.pid)
            spawn.end(self._process, how, STOP_PATIENCE)
            if not spawn.wait_until_gone(helpers, 2):
                spawn.kill_all(helpers)
            self._process = None
        if self._own_mapper:
            self._mapper.stop()

    # What can be done to a running node

    def ctl(self, *args: str, tool: str = "rabbitmqctl") -> str:
        """Run a tool of RabbitMQ's on this node (0.5 s) and return what it prints. EmbeddedError when it fails."""
        done = subprocess.run(
            [self._script(tool), "--quiet", "-n", self.node, *args],
            env=self._environment(),
            cwd=self.data_dir,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=CTL_PATIENCE,
            check=False,
        )
        if done.returncode != 0:
            raise EmbeddedError(f"{tool} {' '.join(args)} failed: {(done.stderr or done.stdout).strip()}")
        return done.stdout

    def join(self, other: RabbitMQ) -> None:
        """Become a node of the other's cluster; what this node held is lost."""
        for command in (["stop_app"], ["reset"], ["join_cluster", other.node], ["start_app"]):
            self.ctl(*command)

    # Steps of start

    def _prepare(self) -> None:
        self.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("mnesia", "logs", "home"):
            (self.data_dir / name).mkdir(exist_ok=True)
        file = self.data_dir / "node.json"
        if not file.exists():
            write_secret(file, json.dumps(self._new_facts()))
        self._kept = json.loads(file.read_text())
        self._write_cookie()

    def _new_facts(self) -> dict[str, Any]:
        """What a restart keeps: the name is part of the data, the user is made at the first start."""
        account = self._credentials or Credentials(USER, secrets.token_urlsafe(24))
        return {
            "node_name": self._node_name or f"citycache-{secrets.token_hex(4)}",
            "user": account.user,
            "password": account.password,
            "cookie": self._cookie or secrets.token_hex(20).upper(),
            "port": None,
        }

    def _write_cookie(self) -> None:
        cookie = self.data_dir / "home" / ".erlang.cookie"
        if not cookie.exists():
            write_secret(cookie, self.cookie)
            cookie.chmod(0o400)

    def _end_leftover(self) -> None:
        """A node may have outlived a killed owner. The start time tells it from a stranger of the same id."""
        try:
            pid, start = (self.data_dir / "node.pid").read_text().split()
        except (OSError, ValueError):
            return
        if spawn.started_at(int(pid)) == start:
            helpers = spawn.descendants(int(pid))
            spawn.end_stranger(int(pid), signal.SIGTERM, STOP_PATIENCE)
            spawn.kill_all(helpers)
        (self.data_dir / "node.pid").unlink(missing_ok=True)

    def _remember_process(self, pid: int) -> None:
        (self.data_dir / "node.pid").write_text(f"{pid} {spawn.started_at(pid)}")

    def _choose_ports(self) -> None:
        self.port = self._wanted_port or spawn.free_port(self._kept.get("port"))
        if not spawn.is_free(self.port):
            raise StartFailed(f"port {self.port} is taken: RabbitMQ cannot listen on it")
        self._dist_port = spawn.free_port()
        if self._management:
            self.management_port = self.management_port or spawn.free_port()
        if self._kept.get("port") != self.port:
            self._kept["port"] = self.port
            write_secret(self.data_dir / "node.json", json.dumps(self._kept))

    def _write_definitions(self) -> None:
        """What the node has before it listens, and has again after each start."""
        user, vhost = self.credentials.user, "/"
        definitions = {
            "vhosts": [{"name": vhost}],
            "users": [{"name": user, "password_hash": _hashed(self.credentials.password), "tags": ["administrator"]}],
            "permissions": [{"user": user, "vhost": vhost, "configure": ".*", "write": ".*", "read": ".*"}],
            "policies": [
                {"vhost": vhost, "name": name, "priority": 0, **policy} for name, policy in self._policies.items()
            ],
        }
        write_secret(self.data_dir / "definitions.json", json.dumps(definitions))

    def _write_configuration(self) -> None:
        settings = {
            "listeners.tcp.local": f"127.0.0.1:{self.port}",
            "load_definitions": "definitions.json",  # where it runs: a path could hold letters that are not read here
            **self._settings,
        }
        if self._management:
            settings |= {"management.tcp.ip": "127.0.0.1", "management.tcp.port": str(self.management_port)}
        write_secret(
            self.data_dir / "rabbitmq.conf",
            "".join(f"{name} = {value}\n" for name, value in settings.items()),
        )
        plugins = "[rabbitmq_management]." if self._management else "[]."
        (self.data_dir / "enabled_plugins").write_text(plugins + "\n")
        (self.data_dir / "rabbitmq-env.conf").touch()

    def _check_progress(self, deadline: float) -> None:
        if self.pid is None:
            raise StartFailed(f"RabbitMQ ended while starting; {self.log} ends with:\n{spawn.tail(self.log, 30)}")
        if time.monotonic() > deadline:
            raise StartFailed(f"RabbitMQ did not start; {self.log} ends with:\n{spawn.tail(self.log, 30)}")

    def _answers(self) -> bool:
        if spawn.is_free(self.port):
            return False
        account = self.credentials
        try:
            with amqp.Connection(
                f"127.0.0.1:{self.port}",
                userid=account.user,
                password=account.password,
                connect_timeout=5,
                read_timeout=10,
            ):
                return True
        except (OSError, amqp.exceptions.AMQPError):
            return False

    def _environment(self) -> dict[str, str]:
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
        no_daemon = "-start_epmd false"
        local = "-kernel inet_dist_use_interface {127,0,0,1}"
        no_spinning = "+sbwt none +sbwtdcpu none +sbwtdio none"  # schedulers without work give their core away
        return {
            **ours,
            "HOME": str(self.data_dir / "home"),
            "LC_ALL": "C.UTF-8",
            "RUNNING_UNDER_SYSTEMD": "true",
            "ERL_EPMD_PORT": str(self._mapper.port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(self.data_dir / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.data_dir / "logs"),
            "RABBITMQ_CONFIG_FILE": str(self.data_dir / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(self.data_dir / "rabbitmq-env.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.data_dir / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{local} {no_daemon} {no_spinning}",
            "RABBITMQ_CTL_ERL_ARGS": f"{local} {no_daemon}",
        }

    def _script(self, name: str) -> Path:
        server = self._server or find_server()
        if server is None:
            raise ServerMissing("no rabbitmq-server found on this machine")
        return server.with_name(name)


def _hashed(password: str) -> str:
    """As RabbitMQ keeps it: https://www.rabbitmq.com/docs/passwords#computing-password-hash."""
    salt = secrets.token_bytes(4)
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()
