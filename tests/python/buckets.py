"""A real S3-compatible server in this process, the variables that name it, and an unreliable connection to it."""

import contextlib
import json
import socket
import threading
import time
import urllib.request

import boto3
import pytest
from moto import settings
from moto.core import ActionAuthenticatorMixin
from moto.server import ThreadedMotoServer

KEY, SECRET = "AKIAIOSFODNN7EXAMPLE", "not-a-real-secret"


class Buckets:
    """moto, on a port that stays the same when it is stopped and started again."""

    def __init__(self):
        self.port, self.held = 0, None
        self.go_on()
        # What it holds is this process's, and stays from one test to the next.
        request = urllib.request.Request(f"{self.url}/moto-api/reset", method="POST")
        urllib.request.urlopen(request, timeout=30).close()

    def go_on(self):
        if self.held:
            self.held.close()
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        self.host, self.port = self.server.get_host_and_port()

    def stop(self):
        """Answers nothing any more; what it holds stays."""
        self.server.stop()
        if self.held:
            self.held.close()
        # Bound, and not listened at: no other program of a test is given the port meanwhile, and answers in its place.
        self.held = socket.socket()
        self.held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.held.bind((self.host, self.port))

    @property
    def url(self):
        return f"http://{self.host}:{self.port}"

    def client(self, service="s3"):
        options = {"endpoint_url": self.url, "region_name": "us-east-1"}
        return boto3.client(service, aws_access_key_id=KEY, aws_secret_access_key=SECRET, **options)

    def make(self, bucket):
        self.client().create_bucket(Bucket=bucket)
        return f"s3://{bucket}"

    def put(self, folder, bucket, prefix=""):
        """Puts every file below a folder into a bucket."""
        client = self.client()
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                client.upload_file(str(path), bucket, prefix + path.relative_to(folder).as_posix())

    def get(self, bucket, name):
        return self.client().get_object(Bucket=bucket, Key=name)["Body"].read()

    def names(self, bucket, prefix=""):
        found = self.client().list_objects_v2(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for item in found.get("Contents", [])]

    def user(self):
        """A key that may do everything with S3, as (key, secret)."""
        client = self.client("iam")
        client.create_user(UserName="job")
        allowed = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
        client.put_user_policy(UserName="job", PolicyName="all", PolicyDocument=policy)
        made = client.create_access_key(UserName="job")["AccessKey"]
        return made["AccessKeyId"], made["SecretAccessKey"]


def variables(url, key=KEY, secret=SECRET):
    """What AWS's own tools read."""
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture
def buckets(monkeypatch):
    """A store for one test, named by the environment of the programs that the test starts."""
    buckets = Buckets()
    for name, value in variables(buckets.url).items():
        monkeypatch.setenv(name, value)
    yield buckets
    buckets.stop()
    buckets.held.close()


@contextlib.contextmanager
def keys_are_checked():
    """Requests with an unknown key are refused, as real stores do and moto by default does not."""
    before = settings.INITIAL_NO_AUTH_ACTION_COUNT
    settings.INITIAL_NO_AUTH_ACTION_COUNT = 0
    ActionAuthenticatorMixin.request_count = 0
    try:
        yield
    finally:
        settings.INITIAL_NO_AUTH_ACTION_COUNT = before


class BadLine:
    """Passes connections on to a port: slowly, and with a cut after so many bytes of an answer, for the first few."""

    def __init__(self, port, cut_after=None, cuts=0, pause=0.0):
        self.port, self.cut_after, self.cuts, self.pause = port, cut_after, cuts, pause
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                caller, _ = self.listener.accept()
                threading.Thread(target=self.pass_on, args=(caller,), daemon=True).start()

    def pass_on(self, caller):
        with caller, socket.create_connection(("127.0.0.1", self.port)) as server:
            back = threading.Thread(target=self.carry, args=(server, caller, self.cut_after), daemon=True)
            back.start()
            self.carry(caller, server, None)
            back.join()

    def carry(self, one, other, cut_after):
        passed = 0
        with contextlib.suppress(OSError):
            while piece := one.recv(16384):
                if cut_after is not None:
                    time.sleep(self.pause)
                    if passed + len(piece) > cut_after and self.cuts > 0:
                        self.cuts -= 1
                        other.sendall(piece[: cut_after - passed])
                        break
                other.sendall(piece)
                passed += len(piece)
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self):
        self.listener.close()
