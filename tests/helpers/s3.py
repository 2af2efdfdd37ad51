"""An S3 server on loopback, and ports that do not answer."""

import contextlib
import json
import logging
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

SECRET = "the-secret-that-nobody-may-see"
TOKEN = "the-session-token-that-nobody-may-see"


@dataclass
class S3:
    """A running server."""

    port: int

    def bucket(self) -> str:
        """Creates a bucket for one test and returns its name."""
        name = f"bucket-{secrets.token_hex(4)}"
        self.client.create_bucket(Bucket=name)
        return name

    def deny(self, bucket: str, action: str) -> None:
        """Denies an action on a bucket to all users."""
        statement = {
            "Effect": "Deny",
            "Principal": "*",
            "Action": action,
            "Resource": f"arn:aws:s3:::{bucket}/*",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client.put_bucket_policy(Bucket=bucket, Policy=policy)

    @property
    def client(self) -> Any:
        """A boto3 client of the server."""
        return boto3.client(
            "s3", endpoint_url=f"http://127.0.0.1:{self.port}", region_name="us-east-1"
        )


def environment(port: int) -> dict[str, str]:
    """Returns the environment variables that lead to the server, with made-up secrets."""
    return {
        "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_SESSION_TOKEN": TOKEN,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """Starts the server and sets the environment for it."""
    with pytest.MonkeyPatch.context() as patch:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        port = server.get_host_and_port()[1]
        for name, value in environment(port).items():
            patch.setenv(name, value)
        try:
            yield S3(port)
        finally:
            server.stop()


@contextlib.contextmanager
def silent_port() -> Iterator[int]:
    """Opens a port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept: list[socket.socket] = []

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    kept.append(listener.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        for connection in kept:
            connection.close()


def closed_port() -> int:
    """Returns a port at which no process listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
