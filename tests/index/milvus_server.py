"""Starts a real Milvus server from its wheel, says its URL on stdout, and stops it on SIGTERM."""

import signal
import socket
import sys

from milvus import MilvusServer


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(folder: str) -> None:
    server = MilvusServer()
    server.set_base_dir(folder)
    server.listen_port = free_port()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        server.start()
        print(f"http://127.0.0.1:{server.listen_port}", flush=True)
        signal.pause()
    finally:
        server.stop()


if __name__ == "__main__":
    main(sys.argv[1])
