"""The embedded servers: they keep their data, end when told to, and never outlive their owner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path
from typing import Any

import amqp
import psycopg2
import pytest

from backend.embedded import spawn
from backend.embedded.errors import StartFailed
from backend.embedded.identity import user_namespaces_work
from backend.embedded.postgres import Postgres
from backend.embedded.rabbitmq import FLAGS_BEFORE, LOAD_FIRST, LOADED_FIRST, RabbitMQ
from events.topology import POLICIES
from tests.servers import CAREFREE, ROOT, Databases, Vhosts
from tests.waiting import until


def query(dsn: str, statement: str) -> list[tuple[object, ...]]:
    with closing(psycopg2.connect(dsn, connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


def run_and_die(place: Path, code: str) -> list[str]:
    """Run `code` in a process that ends by SIGKILL; what it printed."""
    script = textwrap.dedent(code) + "\nsys.stdout.flush(); os.kill(os.getpid(), 9)\n"
    head = "import os, sys, pathlib\nplace = pathlib.Path(sys.argv[1])\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script, str(place)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    return done.stdout.split()


class TestPostgres:
    def test_keeps_committed_rows_over_a_crash_and_takes_the_same_port_again(self, own_postgres: Postgres):
        dsn, url = own_postgres.dsn_of("citycache"), own_postgres.url
        query(dsn, "CREATE TABLE kept (a int); INSERT INTO kept VALUES (1)")
        own_postgres.kill()
        own_postgres.start()
        assert own_postgres.url == url
        assert query(dsn, "SELECT a FROM kept") == [(1,)]

    def test_is_durable_by_default_and_reads_every_language(self, own_postgres: Postgres):
        dsn = own_postgres.dsn_of("citycache")
        assert query(dsn, "SHOW fsync") == [("on",)]
        assert query(dsn, "SHOW server_encoding") == [("UTF8",)]
        assert query(dsn, "SELECT lower('ÄШ')") == [("äш",)]

    def test_asks_for_its_password_and_hides_it(self, own_postgres: Postgres):
        wrong = own_postgres.dsn_of("citycache").replace("citycache:", "citycache:x", 1)
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(wrong, connect_timeout=5)
        assert (own_postgres.data_dir / "password").stat().st_mode & 0o077 == 0
        assert own_postgres.data_dir.stat().st_mode & 0o077 == 0

    def test_listens_on_this_machine_only(self, own_postgres: Postgres):
        assert query(own_postgres.dsn_of("citycache"), "SHOW listen_addresses") == [("127.0.0.1",)]

    def test_ends_when_its_owner_is_killed(self, tmp_path: Path):
        pid, *_ = run_and_die(
            tmp_path / "pg",
            """
            from backend.embedded.postgres import Postgres
            server = Postgres(place); server.start(); print(server.pid)
            """,
        )
        assert spawn.wait_until_gone([int(pid)], 20)

    def test_takes_over_from_a_server_that_outlived_its_owner(self, tmp_path: Path):
        first = Postgres(tmp_path / "pg", settings=CAREFREE)
        first.start()
        query(first.dsn_of("citycache"), "CREATE TABLE kept (a int)")
        second = Postgres(tmp_path / "pg", settings=CAREFREE)
        second.start()
        assert first.pid is None
        assert query(second.dsn_of("citycache"), "SELECT count(*) FROM kept") == [(0,)]
        second.stop()

    def test_a_pid_file_that_names_a_stranger_stops_nobody(self, tmp_path: Path):
        server = Postgres(tmp_path / "pg", settings=CAREFREE)
        server.start()
        server.kill()
        stranger = subprocess.Popen(["sleep", "60"])
        pid_file = tmp_path / "pg" / "data" / "postmaster.pid"
        pid_file.write_text("\n".join([str(stranger.pid), *pid_file.read_text().split("\n")[1:]]))
        server.start()
        assert stranger.poll() is None
        stranger.kill()
        stranger.wait()
        server.stop()

    def test_says_which_port_is_taken(self, databases: Databases, tmp_path: Path):
        with pytest.raises(StartFailed, match=f"port {databases.server.port} is taken"):
            Postgres(tmp_path / "pg", port=databases.server.port, settings=CAREFREE).start()

    def test_shows_the_log_when_it_cannot_start(self, tmp_path: Path):
        with pytest.raises(StartFailed, match="no_such_setting"):
            Postgres(tmp_path / "pg", settings={**CAREFREE, "no_such_setting": "1"}).start()

    def test_lives_in_a_deep_folder_with_blanks(self, tmp_path: Path):
        deep = tmp_path.joinpath(*["a folder with a long name and blanks"] * 4)
        with Postgres(deep, settings=CAREFREE) as server:
            assert query(server.dsn_of("citycache"), "SELECT 1") == [(1,)]

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root has to become someone else")
    @pytest.mark.parametrize("identity", [spawn.Identity(namespace=True), spawn.Identity(user="nobody")])
    def test_runs_for_root_below_a_folder_that_only_root_may_enter(self, identity: spawn.Identity, tmp_path: Path):
        if identity.namespace and not user_namespaces_work():
            pytest.skip("user namespaces are not allowed here")
        tmp_path.chmod(0o700)
        server = Postgres(tmp_path / "pg", settings=CAREFREE, identity=identity)
        server.start()
        server.kill()
        server.start()
        assert query(server.dsn_of("citycache"), "SELECT 1") == [(1,)]
        server.stop()


class TestDatabases:
    def test_gives_each_test_a_migrated_database(self, database: str):
        dsn = database.replace("+psycopg2", "")
        assert query(dsn, "SELECT count(*) FROM products") == [(0,)]


class TestRabbitMQ:
    def test_keeps_persistent_messages_over_a_crash(self, own_rabbitmq: RabbitMQ):
        quorum = {"x-queue-type": "quorum"}
        with connected(own_rabbitmq) as connection:
            channel = connection.channel()
            channel.confirm_select()
            channel.queue_declare("kept", durable=True, auto_delete=False, arguments=quorum)
            channel.basic_publish_confirm(amqp.Message("hello", delivery_mode=2), routing_key="kept")
        until(lambda: b"kept" in written_names_of_quorum_queues(own_rabbitmq), 10)
        own_rabbitmq.kill()
        own_rabbitmq.start()
        with connected(own_rabbitmq) as connection:
            assert connection.channel().basic_get("kept", no_ack=True).body == "hello"

    def test_leaves_no_process_behind(self, own_rabbitmq: RabbitMQ):
        assert own_rabbitmq.pid is not None
        pids = [own_rabbitmq.pid, own_rabbitmq.port_mapper.pid, *spawn.descendants(own_rabbitmq.pid)]
        own_rabbitmq.stop()
        assert spawn.wait_until_gone([pid for pid in pids if pid], 2)

    def test_ends_when_its_owner_is_killed(self, tmp_path: Path):
        pids = run_and_die(
            tmp_path / "mq",
            """
            from backend.embedded import spawn
            from backend.embedded.rabbitmq import RabbitMQ
            node = RabbitMQ(place); node.start()
            print(node.pid, node.port_mapper.pid, *spawn.descendants(node.pid))
            """,
        )
        assert spawn.wait_until_gone([int(pid) for pid in pids], 25)

    def test_was_told_to_load_what_it_needs_before_it_boots(self, own_rabbitmq: RabbitMQ):
        names = ",".join(LOADED_FIRST)
        missing = own_rabbitmq.ctl("eval", f"[Name || Name <- [{names}], not is_list(code:lib_dir(Name, ebin))].")
        assert missing.count(",") < len(LOADED_FIRST) / 4, "most of it is there"
        told = Path(f"/proc/{own_rabbitmq.pid}/cmdline").read_text()
        assert told.index(LOAD_FIRST) < told.index("\0rabbit\0boot\0"), "in the order in which it is done"
        assert own_rabbitmq.ctl("eval", f'os:getenv("{FLAGS_BEFORE}").').strip() == "false", "its children are not"

    def test_has_its_policies_and_its_user_again_after_each_start(self, own_rabbitmq: RabbitMQ):
        for _ in range(2):
            assert policies(own_rabbitmq) == POLICIES
            with connected(own_rabbitmq) as connection:
                assert connection.connected
            own_rabbitmq.ctl("clear_policy", next(iter(POLICIES)))
            own_rabbitmq.kill()
            own_rabbitmq.start()

    def test_gives_each_test_a_vhost(self, broker: str, vhosts: Vhosts):
        assert broker.startswith(f"amqp://citycache:{vhosts.node.credentials.password}@127.0.0.1:")
        assert b"test-" in vhosts.request("GET", "vhosts")


def policies(node: RabbitMQ) -> dict[str, dict[str, Any]]:
    """Those of the vhost `/`, as they are given."""
    listed = json.loads(node.ctl("list_policies", "--formatter", "json"))
    fields = ("pattern", "apply-to")
    return {
        one["name"]: {name: one[name] for name in fields} | {"definition": json.loads(one["definition"])}
        for one in listed
    }


def connected(node: RabbitMQ) -> amqp.Connection:
    return amqp.Connection(f"127.0.0.1:{node.port}", userid=node.credentials.user, password=node.credentials.password)


def written_names_of_quorum_queues(node: RabbitMQ) -> bytes:
    """RabbitMQ 3.10 writes a new queue's name half a second late; killed before, the queue has no leader."""
    return b"".join(file.read_bytes() for file in node.data_dir.glob("mnesia/*/quorum/*/names.dets"))
