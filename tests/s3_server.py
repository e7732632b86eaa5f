"""A local server that speaks S3 (moto), and the settings with which a machine reaches it."""

from __future__ import annotations

import itertools
import json
import logging
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SECRET = "s3cret-of-the-store"
_numbers = itertools.count()


class Bucket:
    """One bucket of the server.

    Attributes:
        name: Its name.
        address: The directory of runs in it.
        endpoint: Address of the server.
    """

    def __init__(self, endpoint: str) -> None:
        self.endpoint, self.name = endpoint, f"bucket-{next(_numbers)}"
        self.address = f"s3://{self.name}/runs"
        self.client = client("s3", endpoint)
        self.client.create_bucket(Bucket=self.name)

    def variables(self, cache: Path, key: str = "key", secret: str = SECRET) -> dict[str, str]:
        """Returns the environment of a machine with a cache of its own."""
        return {
            "COLLM_CACHE": str(cache),
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
        }

    def names(self) -> list[str]:
        """Returns the keys of all objects below the directory of runs."""
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix="runs/")
        return [each["Key"].removeprefix("runs/") for page in pages for each in page.get("Contents", ())]

    def content(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=self.name, Key=f"runs/{key}")["Body"].read())

    def write(self, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"runs/{key}", Body=data)

    def reader(self) -> tuple[str, str]:
        """Returns key and secret of a user who may read and list; from now on the server looks at credentials."""
        users = client("iam", self.endpoint)
        name = f"reader-{self.name}"
        users.create_user(UserName=name)
        allowed = {"Effect": "Allow", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        users.put_user_policy(UserName=name, PolicyName="read", PolicyDocument=policy)
        key = users.create_access_key(UserName=name)["AccessKey"]
        self.check_credentials(after=0)
        return key["AccessKeyId"], key["SecretAccessKey"]

    def check_credentials(self, *, after: float) -> None:
        """Lets the server look at credentials after some more requests."""
        asked = urllib.request.Request(
            f"{self.endpoint}/moto-api/reset-auth", data=str(after).encode(), headers={"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(asked).close()


def client(service: str, endpoint: str) -> Any:
    """Returns a client of the server for what a test prepares and looks at."""
    import boto3

    keys = {"aws_access_key_id": "key", "aws_secret_access_key": SECRET}
    return boto3.client(service, endpoint_url=endpoint, region_name="us-east-1", **keys)


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """Address of a running server."""
    pytest.importorskip("obstore", reason="the extra 'cloud' is not installed")
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    host, port = running.get_host_and_port()
    yield f"http://{host}:{port}"
    running.stop()


@pytest.fixture
def bucket(s3_endpoint: str) -> Iterator[Bucket]:
    """An empty bucket."""
    made = Bucket(s3_endpoint)
    yield made
    made.check_credentials(after=float("inf"))
