"""examples/tile_server.py over real HTTP, and its page in a real browser."""

import base64
import io
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest

import zarr_core as zarr
from zarr_core.storage import LatencyStore, MemoryStore, WrapperStore
from zarr_core.storage.base import ByteRequest, Value

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")
image = pytest.importorskip("matplotlib.image")

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
import tile_server  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


# --- a server on a thread, and a client ----------------------------------------------------------


class Server:
    """The application on a port of the loopback interface."""

    def __init__(self, app: Any) -> None:
        settings = uvicorn.Config(app, ws="none", log_level="error", timeout_graceful_shutdown=5)
        self.uvicorn = uvicorn.Server(settings)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self.thread = threading.Thread(target=self.uvicorn.run, args=([self.socket],))

    def request(self, path: str, **headers: str) -> tuple[int, str, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", f"/{path}", headers=headers)
            response = connection.getresponse()
            return response.status, response.headers["content-type"], response.read()
        finally:
            connection.close()

    def json(self, path: str, status: int = 200) -> Any:
        found, kind, body = self.request(path)
        assert found == status, body
        assert kind == "application/json"
        return json.loads(body)

    def picture(self, path: str) -> np.ndarray:
        """Return the pixels of a tile, red to opacity, as another program decodes them."""
        status, kind, body = self.request(path)
        assert (status, kind) == (200, "image/png"), body
        return decode(body)


def decode(png: bytes) -> np.ndarray:
    return np.rint(image.imread(io.BytesIO(png), format="png") * 255).astype(int)


def serving(store: Any, seconds: float = 30) -> AbstractContextManager[Server]:
    return serving_app(tile_server.create_app(store, seconds))


@contextmanager
def serving_app(app: Any) -> Iterator[Server]:
    server = Server(app)
    server.thread.start()
    try:
        wait_for(lambda: server.uvicorn.started or not server.thread.is_alive())
        yield server
    finally:
        server.uvicorn.should_exit = True
        server.thread.join(20)
        server.socket.close()
    assert not server.thread.is_alive()


def wait_for(condition: Callable[[], Any], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.01)


def grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return what a tile shows: a shade from 0 to 255 in 255 steps, transparent without a value."""
    steps = np.rint(np.clip((values.astype(float) - low) / (high - low), 0, 1) * 254)
    shade = np.rint(np.where(np.isnan(steps), 0, steps) * 255 / 254).astype(int)
    return np.stack([shade, shade, shade, np.where(np.isnan(steps), 0, 255)], -1)


def padded(picture: np.ndarray) -> np.ndarray:
    height, width, _ = picture.shape
    return np.pad(picture, ((0, 256 - height), (0, 256 - width), (0, 0)))


FIELD = np.random.default_rng(5).integers(0, 255, (600, 700)).astype("f4")
FIELD[100:120, 200:260] = np.nan
CUBE = (np.arange(4 * 3 * 20 * 30).reshape(4, 3, 20, 30) % 251).astype("i2")
CUBE[1, 2, 3, 4] = -9


def make(store: Any) -> Any:
    root = zarr.create_group(store)
    options: dict[str, Any] = {"chunks": (64, 100), "fill_value": np.nan}
    field = root.create_array("field", shape=FIELD.shape, dtype="f4", **options)
    field[...] = FIELD
    with pytest.warns(zarr.errors.ZarrUserWarning, match="not valid JSON"):
        field.attrs.update(units="m", odd=[float("-inf"), None])
    cube = root.create_array(
        "deep/er/cube",
        shape=CUBE.shape,
        chunks=(1, 1, 20, 20),
        dtype="i2",
        fill_value=-9,
        dimension_names=["time", "level", "y", None],
        attributes={"valid_range": [0, 300]},
    )
    cube[...] = CUBE
    root.create_array("names", data=np.array(["a", "b"]))
    root.create_array("line", data=np.arange(5.0))
    return store


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with serving(make(MemoryStore())) as found:
        yield found


# --- answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("z", "y", "x"), [(0, 0, 0), (0, 0, 1), (0, 2, 2), (1, 0, 0), (2, 0, 0)])
def test_tiles_show_every_nth_element(server: Server, z: int, y: int, x: int) -> None:
    step = 2**z
    part = FIELD[::step, ::step][y * 256 : (y + 1) * 256, x * 256 : (x + 1) * 256]
    found = server.picture(f"field/tiles/{z}/{y}/{x}.png?vmin=0&vmax=254&colours=grey")
    np.testing.assert_array_equal(found, padded(grey(part, 0, 254)))


def test_colours_stand_for_values(server: Server) -> None:
    name, half = "field/tiles/0/1/1.png", FIELD[256:512, 256:512] / 2
    found = server.picture(f"{name}?vmin=0&vmax=508&colours=viridis")
    assert found[half == half.min()][0].tolist() == [0x44, 0x01, 0x54, 255]
    top = server.picture(f"{name}?vmin=-9&vmax=1&colours=viridis")  # what is above is clipped
    assert top[half > 1][0].tolist() == [0xFD, 0xE7, 0x25, 255]
    far = server.picture(f"{name}?vmin=-1e300&vmax=1e300&colours=grey")  # beyond float32
    assert (far == [128, 128, 128, 255]).all()
    sampled = server.picture(f"{name}?colours=grey")  # the range is that of the values
    np.testing.assert_array_equal(sampled, grey(FIELD[256:512, 256:512], 0, 254))


@pytest.mark.parametrize(
    ("query", "at"),
    [("", (0, 0)), ("time=3", (3, 0)), ("index=1,2", (1, 2)), ("index=2&level=-1", (2, 2))],
)
def test_leading_indices(server: Server, query: str, at: tuple[int, int]) -> None:
    found = server.picture(f"deep/er/cube/tiles/0/0/0.png?vmin=0&vmax=254&colours=grey&{query}")
    values = np.where(CUBE[at] == -9, np.nan, CUBE[at])
    np.testing.assert_array_equal(found, padded(grey(values, 0, 254)))


@pytest.mark.parametrize("dtype", ["bool", "u1", "i8", "u8", "f2", "f8", ">i4"])
def test_every_number_can_be_drawn(dtype: str) -> None:
    values = (np.arange(300 * 10).reshape(300, 10) % 2).astype(dtype)
    with serving(zarr.create_array({}, data=values, fill_value=0).store) as server:
        assert server.json("array")["range"] == [0, 1]
        found = server.picture("array/tiles/0/1/0.png?colours=grey")
        np.testing.assert_array_equal(found, padded(grey(values[256:], 0, 1)))
        assert server.json("array/statistics")["mean"] == 0.5


@pytest.mark.parametrize(
    ("query", "part"),
    [
        ("field/statistics", FIELD),
        ("field/statistics?index=90:130,190:270:3", FIELD[90:130, 190:270:3]),
        ("field/statistics?index=:,-1", FIELD[:, -1]),
        ("deep/er/cube/statistics?time=1&y=2:5", CUBE[1, :, 2:5]),
    ],
)
def test_statistics(server: Server, query: str, part: np.ndarray) -> None:
    found = server.json(query)
    good = part[np.isfinite(part) & (part != -9)].astype("f8")
    assert (found["size"], found["count"]) == (part.size, good.size)
    assert (found["min"], found["max"]) == (good.min(), good.max())
    assert found["mean"] == pytest.approx(good.mean())


def test_statistics_of_nothing(server: Server) -> None:
    for selection in ("100:120,200:260", "5:5"):
        found = server.json(f"field/statistics?index={selection}")
        assert found["count"] == 0
        assert found["min"] is found["max"] is found["mean"] is None


def test_values(server: Server) -> None:
    assert server.json("field/value?index=3,-1") == {"value": FIELD[3, -1]}
    assert server.json("field/value?index=110,210") == {"value": "NaN"}
    assert server.json("deep/er/cube/value?index=1,2,3,4") == {"value": -9}
    assert server.json("names/value?index=1") == {"value": "b"}


def test_what_there_is(server: Server) -> None:
    listed = {array["name"]: array for array in server.json("")["arrays"]}
    assert {name: array["drawable"] for name, array in listed.items()} == {
        "field": True,
        "deep/er/cube": True,
        "names": False,
        "line": False,
    }
    about = server.json("field")
    assert about == listed["field"] | {"range": [0, 254]}
    assert (about["shape"], about["chunks"], about["levels"]) == ([600, 700], [64, 100], 2)
    assert (about["dtype"], about["fill_value"]) == ("float32", "NaN")
    assert about["attributes"] == {"units": "m", "odd": ["-Infinity", None]}
    cube = server.json("deep/er/cube")
    assert cube["dimensions"] == ["time", "level", "y", None]
    assert cube["range"] == [0, 300]


def test_a_page_for_browsers(server: Server) -> None:
    status, kind, body = server.request("", accept="text/html,*/*;q=0.8")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert not re.findall(rb"https?://", body)  # nothing from elsewhere


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("nothing", 404, "no array 'nothing'; there are deep/er/cube, field"),
        ("nothing/tiles/0/0/0.png", 404, "no array 'nothing'"),
        ("field/tiles/0/3/0.png", 404, "nothing at this place"),
        ("field/tiles/0/-1/0.png", 404, "nothing at this place"),
        ("field/tiles/3/0/0.png", 404, "levels are 0 to 2"),
        ("field/tiles/999999999/0/0.png", 404, "levels are 0 to 2"),
        (f"field/tiles/{'9' * 5000}/0/0.png", 400, "is not a number"),
        (f"field/tiles/{'9' * 400}/0/0.png", 400, "is not a number"),
        ("field/tiles/z/0/0.png", 400, "'z' is not a number"),
        ("field/tiles/0/0/0.png?vmin=nan", 400, "'nan' is not a number"),
        ("field/tiles/0/0/0.png?colours=pink", 400, "colours are viridis"),
        ("field/tiles/0/0/0.png?index=1", 400, "1 indices for 0 dimensions"),
        ("deep/er/cube/tiles/0/0/0.png?time=4", 400, "index 4, dimension"),
        ("deep/er/cube/tiles/0/0/0.png?time=0:2", 400, "one index along each leading"),
        ("deep/er/cube/tiles/0/0/0.png?y=2", 400, "'y' is neither"),
        ("line/tiles/0/0/0.png", 400, "no two dimensions"),
        ("names/statistics", 400, "numbers"),
        ("field/statistics?index=1:2:0", 400, "neither an index nor"),
        ("field/statistics?index=1:2:3:4", 400, "neither an index nor"),
        ("field/statistics?index=1,", 400, "neither an index nor"),
        ("field/statistics?index=1,2,3", 400, "3 indices for 2 dimensions"),
        ("field/statistics?index=600", 400, "index 600, dimension"),
        ("field/statistics?colour=1", 400, "'colour' is neither"),
        ("field/value?index=1", 400, "one index along each dimension"),
    ],
)
def test_what_cannot_be_answered(server: Server, path: str, status: int, words: str) -> None:
    assert words in server.json(path, status)["error"]


def test_more_than_memory_should_hold(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_server, "MOST_ELEMENTS", 100)
    assert "at most 100" in server.json("field/statistics?index=0:101,0", 400)["error"]
    assert server.json("field/statistics?index=0:100,0")["size"] == 100


def test_damaged_chunks_and_failing_stores() -> None:
    store = make(MemoryStore())
    with serving(store) as server:
        store.set("field/c/0/0", b"not a zstd frame")
        error = server.json("field/tiles/0/0/0.png", 502)["error"]
        assert "c/0/0" in error
        assert "zstd" in error
        assert server.json("field/statistics?index=:10,:10", 502)["error"] == error
        assert server.request("field/tiles/0/1/1.png")[0] == 502  # the range is not known
        assert server.request("field/tiles/0/1/1.png?vmin=0&vmax=1")[0] == 200


# --- slow stores ---------------------------------------------------------------------------------


class Gate(WrapperStore[MemoryStore]):
    """Lets requests through while it is open, and counts them."""

    def __init__(self, store: MemoryStore) -> None:
        super().__init__(store)
        self.open = threading.Event()
        self.open.set()
        self.requests: list[str] = []

    def _with_store(self, store: MemoryStore) -> Self:
        other = type(self)(store)
        other.open, other.requests = self.open, self.requests
        return other

    def get(self, key: str, byte_range: ByteRequest | None = None) -> Value | None:
        self.requests.append(key)
        assert self.open.wait(30)
        return super().get(key, byte_range)


@pytest.fixture
def one_at_a_time() -> Iterator[None]:
    zarr.config.set({"async.limit": 1})
    yield
    zarr.config.set({"async.limit": None})


TILE = "field/tiles/0/0/0.png?vmin=0&vmax=254&colours=grey"


def test_a_slow_store_ends_in_504() -> None:
    latency = 0.0
    store = LatencyStore(make(MemoryStore()), get_latency=lambda: latency)
    with serving(store, seconds=0.1) as server:
        latency = 1
        for path in (TILE, "field", "field/statistics", "field/value?index=0,0"):
            assert "within 0.1 s" in server.json(path, 504)["error"]
        latency = 0
        assert server.picture(TILE).shape == (256, 256, 4)


def test_health_while_every_slot_is_busy() -> None:
    store = Gate(make(MemoryStore()))
    expected = grey(FIELD[:256, :256], 0, 254)
    with serving(store) as server, ThreadPoolExecutor(50) as clients:
        store.open.clear()
        store.requests.clear()
        tiles = [clients.submit(server.picture, TILE) for _ in range(50)]
        wait_for(lambda: len(server.uvicorn.server_state.tasks) == 50 and store.requests)
        for _ in range(5):
            assert server.json("health") == {"status": "ok"}
        assert not any(tile.done() for tile in tiles)
        store.open.set()
        for tile in tiles:
            np.testing.assert_array_equal(tile.result(), expected)


def test_a_client_that_goes_away_ends_its_read(one_at_a_time: None) -> None:
    store = Gate(make(MemoryStore()))
    with serving(store) as server:
        store.open.clear()
        store.requests.clear()
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(f"GET /{TILE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            wait_for(lambda: store.requests)
        wait_for(lambda: not server.uvicorn.server_state.tasks)  # though the store still hangs
        made = len(store.requests)
        assert made < 12
        store.open.set()
        server.picture(TILE)  # its turn comes when the first read has ended
        assert len(store.requests) == made + 12  # of 4 x 3 chunks


# --- as a user starts it -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["script", "uvicorn"])
def test_it_is_started_with_one_line(tmp_path: Path, way: str) -> None:
    place = tmp_path / "elevation.zarr"
    zarr.create_array(place, data=FIELD)
    command = {
        "script": [str(EXAMPLES / "tile_server.py"), str(place), "0"],
        "uvicorn": ["-m", "uvicorn", "tile_server:app", "--port", "0"],
    }[way]
    paths = [str(EXAMPLES.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        [sys.executable, "-W", "error", *command],
        cwd=EXAMPLES,
        env={**os.environ, "ZARR_STORE": str(place), "PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    printed = ""
    with process:
        for line in process.stderr:
            printed += line
            if found := re.search(r"running on http://127.0.0.1:(\d+)", line):
                connection = HTTPConnection("127.0.0.1", int(found[1]), timeout=30)
                connection.request("GET", "/elevation/value?index=3,4")
                assert json.load(connection.getresponse()) == {"value": FIELD[3, 4]}
                connection.close()
                process.send_signal(signal.SIGTERM)
    assert "Finished server process" in printed


# --- in a browser --------------------------------------------------------------------------------


class Browser:
    """Chromium without a window, told what to do through two pipes."""

    def __init__(self, place: Path) -> None:
        import fcntl

        theirs_in, self.output = os.pipe()
        self.input, theirs_out = os.pipe()
        # It reads from descriptor 3 and writes to 4, which may be taken here.
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (theirs_in, theirs_out)]
        os.close(theirs_in)
        os.close(theirs_out)
        options = (
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--no-first-run"),
            *("--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe"),
        )
        script = f'exec "$0" "$@" 3<&{ends[0]} 4>&{ends[1]}'
        command = ["bash", "-c", script, str(CHROMIUM), *options, f"--user-data-dir={place}"]
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(
            command, pass_fds=ends, stdin=null, stdout=null, stderr=null
        )
        for end in ends:
            os.close(end)
        self.received, self.number, self.session = b"", 0, ""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]

    def call(self, method: str, **params: Any) -> Any:
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.output, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive()
            if answer.get("id") == self.number:
                assert "error" not in answer, answer
                return answer["result"]

    def receive(self) -> Any:
        while b"\0" not in self.received:
            assert select.select([self.input], [], [], 60)[0], "the browser does not answer"
            data = os.read(self.input, 1 << 20)
            assert data, "the browser has ended"
            self.received += data
        message, _, self.received = self.received.partition(b"\0")
        return json.loads(message)

    def run(self, script: str) -> Any:
        found = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def text(self, name: str) -> str:
        return str(self.run(f"document.getElementById('{name}').textContent"))

    def screenshot(self) -> np.ndarray:
        return decode(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, x: float, y: float, dx: float, dy: float) -> None:
        self.mouse("mouseMoved", x, y)
        self.mouse("mousePressed", x, y, button="left", buttons=1, clickCount=1)
        for part in (0.3, 0.6, 1):
            self.mouse("mouseMoved", x + part * dx, y + part * dy, button="left", buttons=1)
        self.mouse("mouseReleased", x + dx, y + dy, button="left", clickCount=1)

    def press(self, key: str) -> None:
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def close(self) -> None:
        self.session = ""
        with suppress(AssertionError, OSError):  # it may end before it answers
            self.call("Browser.close")
        try:
            self.process.wait(20)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self.input)
            os.close(self.output)


QUARTERS = np.full((4, 3, 1000, 1200), -1, "i2")
"""Four colours, another order of them at each time."""
for time_step in range(4):
    for quarter in range(4):
        rows, columns = divmod((quarter + time_step) % 4, 2)
        QUARTERS[
            time_step, :, rows * 500 : rows * 500 + 500, columns * 600 : columns * 600 + 600
        ] = quarter * 10
QUARTERS[:, :, 400:600, 500:700] = -1  # without a value

RAINBOW = [[0x44, 0x01, 0x54], [0x31, 0x68, 0x8E], [0x35, 0xB7, 0x79], [0xFD, 0xE7, 0x25]]
"""Colours of the values 0, 10, 20 and 30: every third one of the map."""


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here")
    root = zarr.create_group({})
    names = ["time", "level", "y", "x"]
    options: dict[str, Any] = {"chunks": (1, 1, 250, 250), "fill_value": -1}
    root.create_array(
        "quarters", data=QUARTERS, dimension_names=names, attributes={"units": "K"}, **options
    )
    root.create_array("random", data=FIELD)
    with serving(root.store) as server:
        found = Browser(tmp_path / "profile")
        size = {"width": 1100, "height": 700, "deviceScaleFactor": 1, "mobile": False}
        light = {"name": "prefers-color-scheme", "value": "light"}
        try:
            found.call("Emulation.setDeviceMetricsOverride", **size)
            found.call("Emulation.setEmulatedMedia", features=[light])
            found.call("Page.navigate", url=server.url)
            wait_until_drawn(found)
            yield found
        finally:
            found.close()


def wait_until_drawn(browser: Browser) -> None:
    """Wait until no tile of the view is missing."""
    wait_for(lambda: browser.run("document.body?.dataset.drawn == 'yes' && !awaited"))


def check_pattern(browser: Browser, values: np.ndarray) -> int:
    """Compare the screenshot with the data where nothing covers it; return how many places."""
    view = browser.run("view")
    pixels = browser.screenshot()
    height, width, _ = pixels.shape
    places = 0
    for screen_y in range(50, height - 70, 60):
        for screen_x in range(300, width - 70, 60):
            y = view["y"] + (screen_y - height / 2) / view["scale"]
            x = view["x"] + (screen_x - width / 2) / view["scale"]
            inside = 0 <= y < values.shape[0] and 0 <= x < values.shape[1]
            edge = [abs(y - at) for at in (0, 400, 500, 600, 1000)]
            edge += [abs(x - at) for at in (0, 500, 600, 700, 1200)]
            if min(edge) * view["scale"] < 6:
                continue  # colours mix there
            value = values[int(y), int(x)] if inside else -1
            expected = RAINBOW[value // 10] if value >= 0 else [0xE9, 0xED, 0xF2]
            shown = pixels[screen_y, screen_x, :3]
            assert np.abs(shown - expected).max() <= 6, (screen_x, screen_y, value, shown)
            places += 1
    return places


def value_text(value: int) -> str:
    return f"{value} K" if value >= 0 else "no value"


def test_the_page(browser: Browser) -> None:
    assert browser.text("about") == "4×3×1000×1200 int16, chunks 1×1×250×250"
    everything = browser.run("view")
    assert check_pattern(browser, QUARTERS[2, 1]) > 50

    # dragged: the picture goes with the pointer
    before = browser.screenshot()
    browser.drag(700, 500, -100, -60)
    wait_until_drawn(browser)
    moved = browser.run("view")
    assert moved["x"] == pytest.approx(everything["x"] + 100 / moved["scale"])
    assert moved["y"] == pytest.approx(everything["y"] + 60 / moved["scale"])
    after = browser.screenshot()
    np.testing.assert_array_equal(after[90:440, 300:800], before[150:500, 400:900])
    assert check_pattern(browser, QUARTERS[2, 1]) > 50

    # zoomed with the wheel: what is under the pointer stays there
    browser.mouse("mouseMoved", 650, 350)
    x = int(moved["x"] + (650 - 1100 / 2) / moved["scale"])
    y = int(moved["y"] + (350 - 700 / 2) / moved["scale"])
    place = f"y {y}, x {x}"
    assert browser.text("place") == place
    wait_for(lambda: browser.text("value") == value_text(QUARTERS[2, 1, y, x]))
    browser.mouse("mouseWheel", 650, 350, deltaX=0, deltaY=-600)
    wait_until_drawn(browser)
    assert browser.run("view.scale") == pytest.approx(4 * moved["scale"])
    assert check_pattern(browser, QUARTERS[2, 1]) > 20
    browser.mouse("mouseMoved", 651, 350)
    browser.mouse("mouseMoved", 650, 350)
    assert browser.text("place") == place

    # by keyboard, with the value at the centre
    for key in ("0", "-", "-", "ArrowRight", "ArrowUp", "ArrowUp", "+"):
        browser.press(key)
    wait_until_drawn(browser)
    view = browser.run("view")
    assert view["scale"] == pytest.approx(everything["scale"] / 1.5)
    y, x = int(view["y"]), int(view["x"])
    assert browser.text("place") == f"y {y}, x {x}"
    wait_for(lambda: browser.text("value") == value_text(QUARTERS[2, 1, y, x]))
    browser.mouse("mouseMoved", 650, 350)  # takes the mark at the centre away
    wait_for(lambda: not browser.run("crosshair || awaited"))
    assert check_pattern(browser, QUARTERS[2, 1]) > 50


def test_choosing_what_is_shown(browser: Browser) -> None:
    browser.run("""
        const time = document.querySelector("#leading input");
        time.value = 1;
        time.dispatchEvent(new Event("input"));
    """)
    wait_until_drawn(browser)
    assert check_pattern(browser, QUARTERS[1, 1]) > 50
    browser.run("document.getElementById('fit').click()")
    wait_for(lambda: browser.text("statistics"))
    assert "min0" in browser.text("statistics")
    assert "max30" in browser.text("statistics")

    browser.run("""
        document.getElementById("array").value = "random";
        document.getElementById("array").dispatchEvent(new Event("change"));
    """)
    wait_for(lambda: browser.text("name") == "random")
    wait_until_drawn(browser)
    browser.run("""
        document.getElementById("colours").value = "grey";
        document.getElementById("colours").dispatchEvent(new Event("change"));
        zoom(8 / view.scale);
    """)
    wait_until_drawn(browser)
    view, pixels = browser.run("view"), browser.screenshot()
    for dy, dx in ((-20, -10), (5, 5), (15, 0)):  # elements are squares of 8 pixels now
        y, x = int(view["y"]) + dy, int(view["x"]) + dx
        screen_y = round(pixels.shape[0] / 2 + (y + 0.5 - view["y"]) * 8)
        screen_x = round(pixels.shape[1] / 2 + (x + 0.5 - view["x"]) * 8)
        shade = grey(FIELD[y : y + 1, x : x + 1], 0, 254)[0, 0, :3]
        assert np.abs(pixels[screen_y, screen_x, :3] - shade).max() <= 1


def test_errors_are_shown(browser: Browser) -> None:
    assert browser.text("error") == ""
    browser.run("""
        document.querySelector("#leading input").value = 0;
        leading[0] = 99;
        choose();
    """)
    wait_for(lambda: "index 99, dimension" in browser.text("error"))
