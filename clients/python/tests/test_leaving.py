"""Ctrl-C, `return` and `close` end calls at once, although the server is silent and the timeout far away."""

import asyncio
import http.client
import http.server
import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from served import tiles

import restain

# Seconds: what is allowed, in one of three attempts because a machine may have other work; and the calls' timeout.
SOON, TIMEOUT = 1.0, 30

# A program that runs itself once for every way, forked after the slow imports. It prints the seconds from Ctrl-C, or
# from the moment that it leaves its loop, to where the program goes on, and the threads that would keep it from ending.
WAYS = """
import asyncio, json, os, signal, sys, threading, time, urllib.request
import numpy as np
from torch.utils.data import DataLoader
from restain import AsyncClient, Client, Limits
from restain.torch import RestainCollate, RestainDataset, RestainTransform
from served import tiles

# A program in the background of a shell ignores Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)
url = sys.argv[1]
several = tiles(16, seed=1)
slides = [(tile, number) for number, tile in enumerate(several)]

def client(way, answered):
    return Client(f"{url}/{way}/{answered}", timeout=30, limits=Limits(tiles=2))

def dataset(way, answered, workers, in_flight=4, **options):
    made = RestainDataset(slides, client(way, answered), batch_size=2, seed=1, in_flight=in_flight)
    return DataLoader(made, batch_size=None, num_workers=workers, **options)

def collate(way, answered, workers):
    made = RestainCollate(client(way, answered), seed=1)
    return DataLoader(slides, batch_size=2, collate_fn=made, num_workers=workers)

def transform(way, answered, workers):
    class Slides(list):
        def __getitem__(self, index):
            return RestainTransform(client(way, answered), seed=1)(several[index])
    return DataLoader(Slides(slides), batch_size=2, num_workers=workers)

async def calls(way, answered):
    async with AsyncClient(f"{url}/{way}/{answered}", timeout=30, limits=Limits(tiles=2)) as client:
        await asyncio.gather(client.augment(several), client.augment(several[:1]), client.encode(several))

async def left(way, answered):
    async with AsyncClient(f"{url}/{way}/{answered}", timeout=30) as client:
        running = [asyncio.create_task(client.augment(several[n : n + 1])) for n in range(3)]
        await asyncio.to_thread(held, way)
        leave()

def held(way):
    while int(urllib.request.urlopen(f"{url}/held/{way}").read()) == 0:
        time.sleep(0.02)

def leave():
    global began
    began = time.monotonic()

def loop(loader):
    for _ in loader:
        pass

def leave_after(way, loader, batches):
    for number, _ in enumerate(loader, 1):
        if number == batches:
            held(way)
            leave()
            return

interrupted = {
    "one-portion": lambda way: client(way, 0).augment(several[:1]),
    "several-portions": lambda way: client(way, 0).augment(several),
    "several-replicas": lambda way: Client([f"{url}/{way}/0", f"{url}/{way}/0/"], timeout=30).augment(several),
    "async": lambda way: asyncio.run(calls(way, 0)),
    "dataset-0": lambda way: loop(dataset(way, 0, 0)),
    "dataset-2": lambda way: loop(dataset(way, 0, 2)),
    "dataset-2-persistent": lambda way: loop(dataset(way, 0, 2, persistent_workers=True)),
    "collate-0": lambda way: loop(collate(way, 0, 0)),
    "collate-2": lambda way: loop(collate(way, 0, 2)),
    "transform-2": lambda way: loop(transform(way, 0, 2)),
}
returned = {
    "return-async": lambda way: asyncio.run(left(way, 0)),
    # The tiles are cached, so that a batch is one request. These ask for the next one when the last answer is consumed.
    "return-dataset-0": lambda way: leave_after(way, dataset(way, 2, 0, in_flight=2), 2),
    "return-dataset-2": lambda way: leave_after(way, dataset(way, 4, 2, in_flight=1), 1),
    "return-collate-2": lambda way: leave_after(way, collate(way, 4, 2), 1),
}
ways = {way: (run, None) for way, run in returned.items()}
ways |= {way: (run, os.kill) for way, run in interrupted.items()}
# A terminal sends Ctrl-C to the workers too.
ways |= {f"{way}-terminal": (interrupted[way], os.killpg) for way in ("dataset-2", "collate-2", "async")}
# To the very end, which torch makes slow.
whole = ["several-portions"]

def leaving():
    return [thread.name for thread in threading.enumerate() if not thread.daemon][1:]

def attempt(name, run, kill):
    global began
    reads, writes = os.pipe()
    child, began = os.fork(), 0.0
    if child == 0:
        os.setsid()
        try:
            run(name)
        except KeyboardInterrupt:
            pass
        except BaseException as error:
            # Python notices a signal that comes just before a system call only after it.
            print(name, repr(error), file=sys.stderr)
        os.write(writes, json.dumps([began, time.monotonic(), leaving()]).encode())
        sys.exit() if way in whole else os._exit(0)
    os.close(writes)
    if kill is not None:
        held(name)
        time.sleep(0.3)
        began = time.monotonic()
        kill(child, signal.SIGINT)
    started, ended, threads = json.loads(os.read(reads, 10_000))
    os.waitpid(child, 0)
    return ended - (started or began), threads, time.monotonic() - ended

took = {}
for way, (run, kill) in ways.items():
    for number in range(3):
        took[way] = attempt(f"{way}-{number}", run, kill)
        if took[way][0] < float(sys.argv[2]):
            break
print(json.dumps(took))
"""


class Holding(http.server.BaseHTTPRequestHandler):
    """Forwards the first requests of a way to the real server, and never answers the others.

    The path says how many: `/WAY/COUNT/…`. `/held/WAY` returns how many wait.
    """

    protocol_version = "HTTP/1.1"
    behind = None
    seen, held, lock = {}, {}, threading.Lock()

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path.startswith("/held/"):
            with self.lock:
                count = self.held.get(self.path.rpartition("/")[2], 0)
            self.say(200, "text/plain", str(count).encode())
        else:
            self.do_POST()

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        _, way, answered, *path = self.path.split("/")
        with self.lock:
            self.seen[way] = self.seen.get(way, 0) + 1
            is_held = self.seen[way] > int(answered)
            self.held[way] = self.held.get(way, 0) + is_held
        if is_held:
            self.rfile.read(1)
            self.close_connection = True
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        with closing(http.client.HTTPConnection(*self.behind)) as connection:
            connection.request(self.command, "/" + "/".join(path), body, headers)
            answer = connection.getresponse()
            self.say(answer.status, answer.getheader("Content-Type"), answer.read())

    def say(self, status, kind, body):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def holding(server):
    Holding.behind = tuple(server.http.split(":"))
    Holding.seen, Holding.held = {}, {}
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Holding)
    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{listening.server_port}"
    listening.shutdown()
    thread.join()
    # Joins the threads of its requests.
    listening.server_close()


def test_after_ctrl_c_and_return_a_program_goes_on_at_once(client, holding):
    client.encode(tiles(16, seed=1))
    paths = [str(Path(restain.__file__).parents[1]), str(Path(__file__).resolve().parents[3] / "tests/python")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", WAYS, holding, str(SOON)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    took = json.loads(done.stdout)
    assert len(took) == 17
    assert {way: seconds for way, (seconds, _, _) in took.items() if seconds > SOON} == {}
    assert {way: threads for way, (_, threads, _) in took.items() if threads} == {}
    assert {way: seconds for way, (_, _, seconds) in took.items() if seconds > TIMEOUT / 2} == {}


def test_a_client_that_is_closed_ends_its_calls(holding, until):
    raised = []

    def call(tiles):
        try:
            client.augment(tiles)
        except restain.Cancelled as error:
            raised.append(error.code)

    with restain.Client(f"{holding}/closed/0", timeout=TIMEOUT, limits=restain.Limits(tiles=2)) as client:
        threads = [threading.Thread(target=call, args=(tiles(count),)) for count in (1, 8)]
        for thread in threads:
            thread.start()
        until(lambda: Holding.held.get("closed", 0) == 5)
        left = time.monotonic()
    for thread in threads:
        thread.join()
    assert time.monotonic() - left < TIMEOUT / 2
    assert raised == ["cancelled"] * 2


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_cancelled_task_breaks_its_connection(scheme):
    # With https in the middle of the handshake.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{scheme}://127.0.0.1:{silent.getsockname()[1]}"
        async with restain.AsyncClient(url, timeout=TIMEOUT) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.augment(tiles(1)), 0.3)
            left = time.monotonic()
            # The thread is free again: it neither waits nor retries.
            while client._threads._idle._value == 0:
                await asyncio.sleep(0.01)
                assert time.monotonic() - left < TIMEOUT / 2


def test_a_failed_portion_ends_the_others(holding):
    # A portion that is refused while others wait: the error comes at once.
    with restain.Client(f"{holding}/failed/1", timeout=TIMEOUT, limits=restain.Limits(tiles=4)) as client:
        started = time.monotonic()
        with pytest.raises(restain.InvalidRequest, match="unknown_domain"):
            client.augment(tiles(8), style=restain.Style(domains=["east"]), method="color-match")
        assert time.monotonic() - started < TIMEOUT / 2
