"""Requests a second of the server against a bare FastAPI echo, under the same load from the same generator.

    python benchmarks/http_speed.py

Each server is one process, the echoes without a log. The bare echo runs as FastAPI and uvicorn alone would run it
(h11); a second one is given httptools, as our server has it. The generator, another process, keeps connections open
and sends the real messages (JIESU_DATA) as bodies of ``POST /v1/classify``; an echo reads them by the same schema and
sends them back. First each connection sends as fast as it is answered; then requests are sent at a steady half of the
rate that was reached, whether answered or not, and their latencies are taken.
"""

import argparse
import asyncio
import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
from train_default import DATA, rows

from jiesu_nlp.text import join_fields

ECHO = """
import sys
import uvicorn
from fastapi import FastAPI
from jiesu_nlp.serve.schemas import TicketIn
app = FastAPI()

@app.post("/v1/classify")
async def echo(body: TicketIn) -> TicketIn:
    return body

uvicorn.run(app, port=int(sys.argv[1]), log_level="critical", loop="asyncio", http="{}")
"""
SERVERS = {
    "echo": ECHO.format("h11"),
    "echo, httptools": ECHO.format("httptools"),
    "ours": "import sys\nfrom jiesu_nlp.serve.run import run\nrun({'port': sys.argv[1]})",
}


class Connection(asyncio.Protocol):
    """One connection that is kept open; sends a request and waits for its answer."""

    def __init__(self) -> None:
        self.waiting: asyncio.Future[int] | None = None
        self.read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.read += data
        head, found, body = self.read.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]):
            self.read = b""
            self.waiting.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiting and not self.waiting.done():
            self.waiting.set_exception(ConnectionError("the server is gone"))

    async def send(self, request: bytes) -> int:
        self.waiting = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.waiting


def requests() -> list[bytes]:
    made = []
    for row in rows(DATA / "messages.jsonl")[:2000]:
        body = json.dumps({"text": join_fields(row["title"], row["body"])}, ensure_ascii=False).encode()
        head = f"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        made.append(f"{head}\r\n\r\n".encode() + body)
    return made


async def flat_out(connections: list[Connection], bodies: list[bytes], seconds: float) -> float:
    """Requests a second when each connection sends the next as soon as it is answered."""
    end, done = time.perf_counter() + seconds, 0

    async def one(connection: Connection) -> None:
        nonlocal done
        while time.perf_counter() < end:
            assert await connection.send(random.choice(bodies)) == 200
            done += 1

    begin = time.perf_counter()
    await asyncio.gather(*map(one, connections))
    return done / (time.perf_counter() - begin)


async def steadily(connections: list[Connection], bodies: list[bytes], rate: float, seconds: float) -> list[float]:
    """Latencies, from when each request was due, of requests that come at random at this rate."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in connections:
        free.put_nowait(connection)
    taken: list[float] = []

    async def one(due: float) -> None:
        connection = await free.get()
        assert await connection.send(random.choice(bodies)) == 200
        taken.append(time.perf_counter() - due)
        free.put_nowait(connection)

    begin = due = time.perf_counter()
    tasks = []
    while due < begin + seconds:
        due += random.expovariate(rate)
        if (early := due - time.perf_counter()) > 0:
            await asyncio.sleep(early)
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return taken


async def generate(port: int, bodies: list[bytes], connections: int, seconds: float, rate: float) -> dict:
    loop = asyncio.get_running_loop()
    made = [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(connections)]
    if not rate:
        result = {"rate": await flat_out(made, bodies, seconds)}
    else:
        result = {"latency": await steadily(made, bodies, rate, seconds)}
    for connection in made:
        connection.transport.close()
    return result


@contextmanager
def server(code: str) -> Iterator[int]:
    with socket.socket() as some:
        some.bind(("127.0.0.1", 0))
        port = some.getsockname()[1]
    folder = TemporaryDirectory()  # where a server keeps its corrections
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder.name
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()
        folder.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=16)
    arguments = parser.parse_args()
    bodies = requests()
    rates: dict[str, list[float]] = {name: [] for name in SERVERS}
    spread: dict[str, list[tuple[float, float]]] = {name: [] for name in SERVERS}

    def ask(port: int, rate: float = 0) -> dict:
        return asyncio.run(generate(port, bodies, arguments.connections, arguments.seconds, rate))

    random.seed(0)
    with ExitStack() as running:
        ports = {name: running.enter_context(server(code)) for name, code in SERVERS.items()}
        for port in ports.values():
            ask(port)  # warm
        for _ in range(arguments.rounds):
            for name, port in ports.items():
                rates[name].append(ask(port)["rate"])
                taken = ask(port, rates[name][-1] / 2)["latency"]
                spread[name].append((float(np.percentile(taken, 50)) * 1000, float(np.percentile(taken, 99)) * 1000))
    print(f"{os.cpu_count()} cores, {arguments.connections} connections")
    print("| | requests/s | of the echo's | p50 ms at half load | p99 ms | p99 / p50 |")
    print("|---|---|---|---|---|---|")
    for name in SERVERS:
        share = median(own / bare for own, bare in zip(rates[name], rates["echo"], strict=True))
        p50, p99 = (median(values) for values in zip(*spread[name], strict=True))
        ratio = median(high / low for low, high in spread[name])
        print(f"| {name} | {median(rates[name]):,.0f} | {share:.2f} | {p50:.2f} | {p99:.2f} | {ratio:.1f} |")


if __name__ == "__main__":
    main()
