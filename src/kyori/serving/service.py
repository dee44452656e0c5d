"""The app behind uvicorn: on which address, until when, and what is written to the log."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..errors import ArgumentError, KyoriError
from ..optional import require
from .access import Tokens, is_loopback
from .app import create_app
from .connections import bounded_protocol
from .limits import Limits

__all__ = ["Host", "Service"]


class Host:
    """An app behind uvicorn, with the limits on connections that uvicorn leaves to others.

    :meth:`run` serves until SIGINT or SIGTERM; as a context manager it serves from a thread, for notebooks and tests.
    Stopping, it takes no new requests and finishes those it has accepted.

    Args:
        build: Makes the app, when the address is known to be free.
        host: Address to listen on.
        port: TCP port; 0 takes a free one.
        limits: How much a client may ask.
        purpose: What asks for the packages, in the message that they are missing.

    Raises:
        ArgumentError: ``host`` and ``port`` cannot be listened on.
    """

    def __init__(
        self,
        build: Callable[[], Any],
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        limits: Limits | None = None,
        purpose: str = "kyori serve",
    ):
        limits = limits or Limits()
        uvicorn = require("uvicorn", extra="serve", purpose=purpose)
        self._socket = _listening(host, port)
        #: The URL that clients use.
        self.address = _address(self._socket)
        try:
            config = uvicorn.Config(
                build(),
                http=bounded_protocol(limits),
                ws="none",
                loop="asyncio",
                lifespan="on",
                access_log=False,  # uvicorn's would write whole addresses; the gate writes its own lines
                log_config=None,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=limits.keep_alive_seconds,
                timeout_graceful_shutdown=round(limits.stop_seconds) or 1,
            )
            self._server: Any = uvicorn.Server(config)
        except BaseException:
            self._socket.close()
            raise
        self._thread: threading.Thread | None = None

    def run(self) -> None:
        """Serve until SIGINT or SIGTERM."""
        self._server.run(sockets=[self._socket])

    @property
    def started(self) -> bool:
        """Whether requests are answered by now."""
        return bool(self._server.started)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.run, name="kyori-service", daemon=True)
        self._thread.start()
        while not self.started:
            if not self._thread.is_alive():
                raise KyoriError("the server did not start; its log says why.")
            time.sleep(0.01)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()


class Service(Host):
    """A server for one run.

    It runs as its :class:`Host` does.

    Args:
        run: A run folder, or a link to one.
        host: Address to listen on. Beyond this machine (anything but localhost, 127.0.0.1, ::1) tokens are needed.
        port: TCP port; 0 takes a free one.
        url: Where the index is, if not where ``kyori index`` put it.
        tokens: Who may ask.
        writable: Whether items may be added and removed.
        device: Where the model runs.
        limits: How much a client may ask.

    Raises:
        ArgumentError: ``host`` is reachable from outside and there are no tokens, or cannot be listened on.
        KyoriError: The run or its index cannot be opened.
    """

    def __init__(
        self,
        run: str | Path,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        url: str | None = None,
        tokens: Tokens | None = None,
        writable: bool = True,
        device: str = "cpu",
        limits: Limits | None = None,
    ):
        limits = limits or Limits()
        if not is_loopback(host) and not len(tokens or Tokens()):
            raise ArgumentError(
                f"host {host} can be reached from other machines, and there are no tokens; give --tokens FILE or set"
                " KYORI_READ_TOKEN or KYORI_WRITE_TOKEN, or listen on 127.0.0.1."
            )
        super().__init__(
            lambda: create_app(run, url=url, tokens=tokens, writable=writable, device=device, limits=limits),
            host=host,
            port=port,
            limits=limits,
        )


def _listening(host: str, port: int) -> socket.socket:
    if not 0 <= port < 65536:
        raise ArgumentError(f"port must lie between 0 and 65535; got {port}.")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(found[0], found[1])
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(found[4])
    except OSError as error:
        raise ArgumentError(
            f"cannot listen on {host}:{port}: {error.strerror or error}. Choose another port; 0 takes a free one."
        ) from None
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def quiet_logs() -> None:
    """Send the server's own lines to stderr, and of other packages warnings only."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    logging.getLogger("kyori.serving").setLevel(logging.INFO)
