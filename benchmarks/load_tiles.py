"""Drives examples/tile_server.py, once with each library below it, with many clients at once.

    python benchmarks/load_tiles.py                          # 30 s for each library
    python benchmarks/load_tiles.py --seconds 10 --rounds 3 --levels 0

The server is the same application each time, a process of its own. Only what reads, colours and
encodes a tile differs: one hop into a worker thread with zarr_core, `AsyncArray.getitem` and then a
thread for the picture with zarr-python, with either of its codec pipelines. They take turns, in
another order each round; the table shows medians over the rounds. The array is 4096 x 4096 float32
in zstd chunks of 256 x 256 in local files. Clients keep their connections; they ask for random
tiles of full resolution (`--levels 0`: one chunk a tile) up to every fourth element (`--levels
0,1,2`: 4**level chunks a tile). A process that does nothing else asks for `/health` meanwhile.
Needs starlette and uvicorn, and zarr-python for its rows.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from asyncio import StreamReader, StreamWriter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, sleep
from typing import Any

import numpy as np

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parent.parent), str(HERE.parent.parent / "examples")]

import tile_server  # noqa: E402 - the example of this tree

import zarr_core  # noqa: E402

OURS = "zarr_core"
PIPELINES = {"zarr-python": "BatchedCodecPipeline", "zarr-python, fused": "FusedCodecPipeline"}
SIDE = 4096
WARM_UP = 1.0
HEALTH_PAUSE = 0.02


def make_array(place: Path) -> None:
    """Write hills with a little noise: about what elevation compresses to."""
    rng = np.random.default_rng(1)
    y, x = np.ogrid[:SIDE, :SIDE]
    hills = 900 * np.sin(x / 310) * np.cos(y / 270) + 120 * np.sin(x / 41 + y / 57)
    values = (hills + rng.normal(0, 3, hills.shape)).round(1).astype("f4")
    zarr_core.create_array(place, data=values, chunks=(256, 256))


# --- the server's process ------------------------------------------------------------------------


def serve(peer: str, place: str) -> None:
    """Serve on some port, which is printed."""
    import socket

    import uvicorn

    if peer in PIPELINES:
        read_with_zarr_python(place, PIPELINES[peer])
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    settings = uvicorn.Config(tile_server.create_app(place), log_level="error", access_log=False)
    uvicorn.Server(settings).run([listener])


def read_with_zarr_python(place: str, pipeline: str) -> None:
    """Let the application's tiles come from zarr-python's asynchronous API."""
    import zarr
    from zarr.api.asynchronous import open_array

    zarr.config.set({"codec_pipeline.path": f"zarr.core.codec_pipeline.{pipeline}"})
    opened: dict[None, Any] = {}

    def draw(values: Any, limits: tuple[float, float], colours: str) -> bytes:
        pixels = tile_server.paint(np.asarray(values), 0, *limits)
        return tile_server.png(pixels, tile_server.PALETTES[colours])

    async def tile(_array: Any, at: Any, limits: tuple[float, float], colours: str) -> bytes:
        if not opened:
            opened[None] = await open_array(store=place, mode="r")
        values = await opened[None].getitem(at)
        return await asyncio.to_thread(draw, values, limits, colours)

    vars(tile_server)["tile_async"] = tile


@contextmanager
def server(peer: str, place: Path) -> Iterator[tuple[int, int]]:
    """Give a server's port and process id."""
    command = [sys.executable, str(HERE), "--serve", peer, str(place)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            port = int(process.stdout.readline())
            wait_for_answer(port)
            yield port, process.pid
        finally:
            process.terminate()


def wait_for_answer(port: int) -> None:
    until = perf_counter() + 30
    while perf_counter() < until:
        with closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        sleep(0.05)
    raise TimeoutError("the server did not start")


# --- the clients ---------------------------------------------------------------------------------


@dataclass
class Load:
    """What the clients found."""

    seconds: list[float]
    errors: int = 0
    received: int = 0
    tiles: int = 0
    """All of them, also those while it warmed up."""


def tile_paths(levels: list[int]) -> list[str]:
    counts = {z: range(-(-SIDE // (256 << z))) for z in levels}
    return [f"{z}/{y}/{x}" for z, count in counts.items() for y in count for x in count]


async def drive(port: int, levels: list[int], clients: int, seconds: float) -> Load:
    load = Load([])
    paths = tile_paths(levels)
    start = perf_counter() + WARM_UP
    every = (client(port, paths, number, load, start, seconds) for number in range(clients))
    await asyncio.gather(*every)
    return load


async def client(
    port: int, paths: list[str], number: int, load: Load, start: float, seconds: float
) -> None:
    """Ask for one tile after the other; count those that begin and end in the measured time."""
    choice = random.Random(number)
    streams: tuple[StreamReader, StreamWriter] | None = None
    while (begin := perf_counter()) < start + seconds:
        try:
            streams = streams or await asyncio.open_connection("127.0.0.1", port)
            status, length = await ask(*streams, choice.choice(paths))
        except (OSError, EOFError):
            status, length, streams = 0, 0, None
        end = perf_counter()
        load.tiles += status == 200
        if begin < start or end > start + seconds:
            continue
        if status == 200:
            load.seconds.append(end - begin)
            load.received += length
        else:
            load.errors += 1
    if streams is not None:
        streams[1].close()


async def ask(reader: StreamReader, writer: StreamWriter, path: str) -> tuple[int, int]:
    """Return the status and the length of the body."""
    query = "vmin=-1000&vmax=1000&colours=terrain"
    writer.write(f"GET /load/tiles/{path}.png?{query} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    body = await reader.readexactly(length)
    status = int(head.split(b" ", 2)[1])
    return (status if status != 200 or body.startswith(b"\x89PNG") else 0), length


def probe(port: int, seconds: float) -> None:
    """Print how long answers of `/health` take."""
    sleep(WARM_UP)
    found: list[float] = []
    with closing(HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        until = perf_counter() + seconds
        while (begin := perf_counter()) < until:
            connection.request("GET", "/health")
            connection.getresponse().read()
            found.append(perf_counter() - begin)
            sleep(HEALTH_PAUSE)
    print(json.dumps(found))


# --- measurements --------------------------------------------------------------------------------


def measure(peer: str, place: Path, args: argparse.Namespace) -> dict[str, float]:
    with server(peer, place) as (port, pid):
        before = processor_seconds(pid)
        command = [sys.executable, str(HERE), "--probe", str(port), str(args.seconds)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as health:
            load = asyncio.run(drive(port, args.levels, args.clients, args.seconds))
            printed, _ = health.communicate()
        used = processor_seconds(pid) - before
    waited = json.loads(printed)
    return {
        "tiles/s": len(load.seconds) / args.seconds,
        "errors": load.errors,
        "MB/s": load.received / args.seconds / 1e6,
        "processor": 1e3 * used / max(1, load.tiles),
        "tile p50": 1e3 * percentile(load.seconds, 50),
        "tile p99": 1e3 * percentile(load.seconds, 99),
        "health p50": 1e3 * percentile(waited, 50),
        "health p99": 1e3 * percentile(waited, 99),
        "health max": 1e3 * max(waited),
    }


def processor_seconds(pid: int) -> float:
    """Return what a process has used so far; says more than time on a machine with other work."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:  # not Linux
        return float("nan")
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def percentile(values: list[float], percent: float) -> float:
    return float(np.percentile(values, percent)) if values else float("nan")


def table(found: dict[str, list[dict[str, float]]]) -> str:
    """Return a table in Markdown: medians over the rounds, times in milliseconds."""
    columns = list(next(iter(found.values()))[0])
    heads = {"processor": "processor ms a tile"}
    heads |= {name: f"{name}, ms" for name in columns if " " in name}
    lines = [
        f"| | {' | '.join(heads.get(name, name) for name in columns)} |",
        f"|---|{'--:|' * len(columns)}",
    ]
    for peer, rounds in found.items():
        medians = [statistics.median(each[name] for each in rounds) for name in columns]
        lines.append(f"| {peer} | {' | '.join(f'{median:.3g}' for median in medians)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--levels", type=lambda text: list(map(int, text.split(","))), default="0")
    parser.add_argument("--peers", nargs="+", choices=[OURS, *PIPELINES])
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--probe", nargs=2, type=float, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        return serve(*args.serve)
    if args.probe:
        return probe(int(args.probe[0]), args.probe[1])

    peers = args.peers or [OURS, *(PIPELINES if find_spec("zarr") else ())]
    found: dict[str, list[dict[str, float]]] = {peer: [] for peer in peers}
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory) / "load.zarr"
        make_array(place)
        for number in range(args.rounds):
            for peer in random.Random(number).sample(peers, len(peers)):
                found[peer].append(measure(peer, place, args))
                print(peer, json.dumps(found[peer][-1]), file=sys.stderr)
    print(table(found))
    return None


if __name__ == "__main__":
    main()
