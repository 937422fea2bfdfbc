"""PostgreSQL's TLS before a server whose build has none: the embedded one. It speaks the server's side of the protocol
up to the handshake and passes everything after it on, so clients see what they would see of any server with TLS."""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from contextlib import suppress

from tests.certificates import Certificate

SSL_REQUEST, GSS_REQUEST = 80877103, 80877104


class Terminator:
    """Listens on a port of 127.0.0.1; `refused` counts clients that gave up in the handshake or came without TLS."""

    def __init__(self, shown: Certificate, upstream: int) -> None:
        self._upstream = upstream
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(shown.certificate, shown.key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.encrypted = self.refused = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Take no more clients."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            _, code = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
            if code == GSS_REQUEST:
                client.sendall(b"N")
                _, code = struct.unpack("!II", client.recv(8, socket.MSG_WAITALL))
            if code != SSL_REQUEST:
                raise ConnectionError("this server speaks TLS only")
            client.sendall(b"S")
            inside = self._context.wrap_socket(client, server_side=True)
        except (OSError, struct.error):
            self.refused += 1
            return client.close()
        self.encrypted += 1
        server = socket.create_connection(("127.0.0.1", self._upstream))
        with inside, server:
            back = threading.Thread(target=_pass_on, args=(server, inside), daemon=True)
            back.start()
            _pass_on(inside, server)
            back.join()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
