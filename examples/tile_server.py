"""Serve Zarr arrays as map tiles, statistics and values over HTTP, with a page to look at them.

    python examples/tile_server.py STORE [PORT]
    ZARR_STORE=elevation.zarr uvicorn tile_server:app       # the same, in examples/

STORE is a path or a URL of an array, or of a group whose arrays are served. Needs starlette and
uvicorn. One thread hop per request reads, colours and encodes; the event loop only passes on.

    /                                       the page, or JSON for programs: the arrays
    /NAME                                   JSON: shape, chunks, attributes, range of the values
    /NAME/tiles/Z/Y/X.png?time=3            256 x 256 elements of every 2**Z-th row and column
    /NAME/statistics?index=3,100:200        JSON: count, min, max and mean of a selection
    /NAME/value?time=3&index=-1,10,20       JSON: one element
    /health                                 answers whatever the store does

`index` selects along the first dimensions as `array[...]` does; a dimension's name selects along
that one. Tiles take `vmin`, `vmax` and `colours` too.
"""

import asyncio
import json
import math
import os
import struct
import sys
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

import zarr_core as zarr
from zarr_core.threads.twins import async_twin

Values: TypeAlias = npt.NDArray[Any]
Selection: TypeAlias = tuple[int | slice, ...]

PAGE = Path(__file__).with_suffix(".html")
TILE = 256
MOST_ELEMENTS = 1 << 24
"""Statistics hold what they look at in memory, so that is bounded."""
OPTIONS = {"vmin", "vmax", "colours"}
COLOURS = {
    "viridis": "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725",
    "terrain": "1b3f66 2f7f86 5aa469 a9c77b e8d9a0 c0946a 8c5e4a b9a9a3 ffffff",
    "magma": "000004 180f3d 440f76 721f81 9e2f7f cd4071 f1605d fd9668 feca8d fcfdbf",
    "balance": "2166ac 67a9cf d1e5f0 f7f7f7 fddbc7 ef8a62 b2182b",
    "grey": "000000 ffffff",
}


STATUS: dict[type[Exception], int] = {  # the nearest base class of an error counts
    IndexError: 400,  # a selection that does not fit the array
    zarr.errors.BaseZarrError: 502,  # a chunk that is damaged, or in a codec that is not known
    OSError: 502,  # the store
    TimeoutError: 504,
}


# --- what is done in worker threads, in one hop a request ----------------------------------------


def palette(stops: str) -> bytes:
    """Return 256 colours: the first for elements without a value, a ramp for the others."""
    colours = np.array([list(bytes.fromhex(stop)) for stop in stops.split()]).T
    at = np.linspace(0, colours.shape[1] - 1, 255)
    ramp = [np.interp(at, np.arange(len(channel)), channel) for channel in colours]
    return bytes(3) + np.rint(ramp).astype(np.uint8).T.tobytes()


PALETTES = {name: palette(stops) for name, stops in COLOURS.items()}


def png(pixels: npt.NDArray[np.uint8], colours: bytes) -> bytes:
    """Return a PNG picture of colour numbers; number 0 is transparent."""
    height, width = pixels.shape
    rows = np.zeros((height, width + 1), np.uint8)  # in front of each row: its filter, none
    rows[:, 1:] = pixels
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [b"IHDR" + header, b"PLTE" + colours, b"tRNS\0", b"IDAT" + zlib.compress(rows.data, 1)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in [*parts, b"IEND"]
    )


def has_value(values: Values, fill_value: Any) -> npt.NDArray[np.bool_]:
    """Return which elements count: finite ones; the fill value does not, unless it is 0."""
    found: npt.NDArray[np.bool_] = np.isfinite(values)
    return found & (values != fill_value) if fill_value else found


def paint(values: Values, fill_value: Any, low: float, high: float) -> npt.NDArray[np.uint8]:
    """Return the colour numbers of a tile: 1 for `low` to 255 for `high`, 0 without a value."""
    shade = values.astype(np.float64)
    shade -= low
    shade *= 254 / ((high - low) or 1)
    np.clip(shade, 0, 254, out=shade)
    shade += 1.5
    shade[~has_value(values, fill_value)] = 0
    pixels = np.zeros((TILE, TILE), np.uint8)  # a tile at the edge is not full
    pixels[: shade.shape[0], : shade.shape[1]] = shade
    return pixels


def tile(array: zarr.Array, at: Selection, limits: tuple[float, float], colours: str) -> bytes:
    values = array.getitem(at)
    return png(paint(values, array.fill_value, *limits), PALETTES[colours])


def statistics(array: zarr.Array, at: Selection | tuple[Values, ...]) -> dict[str, Any]:
    """Return what is known of an orthogonal selection; `count` is of elements with a value."""
    values = np.asarray(array.get_orthogonal_selection(at))
    good = values[has_value(values, array.fill_value)]
    found: dict[str, Any] = {"size": values.size, "count": good.size}
    if good.size == 0:
        return {**found, "min": None, "max": None, "mean": None}
    mean = good.mean(dtype=np.float64)
    return {**found, "min": good.min().item(), "max": good.max().item(), "mean": mean.item()}


@dataclass
class Layer:
    """An array that is served."""

    array: zarr.Array
    about: dict[str, Any]
    limits: tuple[float, float] | None = None
    """The values that get the first and the last colour; found out when they are needed."""


def open_layers(store: Any) -> dict[str, Layer]:
    """Open an array, or all arrays below a group."""
    node = zarr.open(store, mode="r")
    if isinstance(node, zarr.Array):
        place = store if isinstance(store, str) else ""
        found = [(Path(place).name.partition(".")[0] or "array", node)]
    else:
        found = [(name, n) for name, n in node.members(None) if isinstance(n, zarr.Array)]
    return {name: Layer(array, describe(name, array)) for name, array in found}


def describe(name: str, array: zarr.Array) -> dict[str, Any]:
    attributes = array.attrs.asdict()
    names = getattr(array.metadata, "dimension_names", None) or attributes.get("_ARRAY_DIMENSIONS")
    across = max(array.shape[-2:], default=1) / TILE
    return {
        "name": name,
        "shape": array.shape,
        "chunks": array.chunks,
        "dtype": str(array.dtype),
        "dimensions": list(names or [None] * array.ndim),
        "fill_value": as_json(np.asarray(array.fill_value).tolist()),
        "attributes": as_json(attributes),
        "drawable": array.dtype.kind in "biuf" and array.ndim >= 2 and array.size > 0,
        "levels": max(0, math.ceil(math.log2(max(1, across)))),
    }


def as_json(value: Any) -> Any:
    """Return a value in which NaN, infinity and what else JSON does not know is text."""
    return json.loads(json.dumps(value, default=str), parse_constant=str)


def find_limits(array: zarr.Array) -> tuple[float, float]:
    """Return the range to colour: from the attributes, or of a sample that is never large."""
    match array.attrs.get("valid_range"):
        case [int() | float() as low, int() | float() as high] if 0 < high - low < math.inf:
            return low, high
    *leading, height, width = array.shape
    middle = [np.array([length // 2]) for length in leading]
    sample = statistics(array, (*middle, spread(height), spread(width)))
    return (sample["min"], sample["max"]) if sample["count"] else (0, 1)


def spread(length: int) -> Values:
    """Return up to four spans of indices: whole chunks are read, but only some."""
    starts = np.linspace(0, max(0, length - TILE), 4).astype(int)
    spans = starts[:, None] + np.arange(min(TILE, length))
    return np.unique(spans)


# `private`: they only read, so one that is cancelled need not be waited for.
open_layers_async = async_twin(open_layers, private=True)
tile_async = async_twin(tile, private=True)
statistics_async = async_twin(statistics, private=True)
find_limits_async = async_twin(find_limits, private=True)


# --- requests ------------------------------------------------------------------------------------


@asynccontextmanager
async def patience(request: Request) -> AsyncIterator[None]:
    """End what is awaited inside after some seconds, or when the client has gone."""

    async def hang_up() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        until.reschedule(0)

    async with asyncio.timeout(request.app.state.seconds) as until:
        watch = asyncio.create_task(hang_up())
        try:
            yield
        finally:
            watch.cancel()


def layer_of(request: Request) -> Layer:
    layers: dict[str, Layer] = request.app.state.layers
    name = request.path_params["name"]
    if name not in layers:
        raise HTTPException(404, f"there is no array {name!r}; there are {', '.join(layers)}")
    return layers[name]


def number(text: str, kind: type[int] | type[float] = int) -> Any:
    with suppress(ValueError, OverflowError):
        if math.isfinite(value := kind(text)):
            return value
    raise HTTPException(400, f"{text[:50]!r} is not a number")


def index(text: str) -> int | slice:
    """Return what `12` or `10:20:2` means between brackets."""
    parts = [number(part) if part.strip() else None for part in text.split(":")]
    if len(parts) == 1 and parts[0] is not None:
        return int(parts[0])
    if not 2 <= len(parts) <= 3 or parts[2:] == [0]:
        raise HTTPException(400, f"{text[:50]!r} is neither an index nor START:STOP:STEP")
    return slice(*parts)


def selection_of(request: Request, layer: Layer, ndim: int, default: int | slice) -> Selection:
    """Return what the query selects along the first `ndim` dimensions."""
    names = layer.about["dimensions"][:ndim]
    chosen: list[int | slice] = [default] * ndim
    for key, text in request.query_params.multi_items():
        parts = text.split(",") if key == "index" and text else []
        if len(parts) > ndim:
            raise HTTPException(400, f"{len(parts)} indices for {ndim} dimensions")
        chosen[: len(parts)] = map(index, parts)
        if key in names:
            chosen[names.index(key)] = index(text)
        elif key not in OPTIONS | {"index"}:
            raise HTTPException(
                400, f"{key!r} is neither an option nor one of the dimensions {names}"
            )
    return tuple(chosen)


async def limits_of(layer: Layer) -> tuple[float, float]:
    if layer.limits is None:
        layer.limits = await find_limits_async(layer.array)
    return layer.limits


async def get_tile(request: Request) -> Response:
    layer = layer_of(request)
    if not layer.about["drawable"]:
        raise HTTPException(400, "this array has no two dimensions of numbers to draw")
    z, y, x = (number(request.path_params[name]) for name in ("z", "y", "x"))
    if not 0 <= z <= layer.about["levels"]:
        raise HTTPException(404, f"levels are 0 to {layer.about['levels']}")
    step = 2**z
    height, width = layer.array.shape[-2:]
    rows, columns = (slice(i * TILE * step, (i + 1) * TILE * step, step) for i in (y, x))
    if not (0 <= rows.start < height and 0 <= columns.start < width):
        raise HTTPException(404, "there is nothing at this place")
    leading = selection_of(request, layer, layer.array.ndim - 2, 0)
    if not all(isinstance(item, int) for item in leading):
        raise HTTPException(400, "a tile needs one index along each leading dimension")
    query = request.query_params
    colours = query.get("colours", "viridis")
    if colours not in COLOURS:
        raise HTTPException(400, f"colours are {', '.join(COLOURS)}")
    stated = {key: number(query[key], float) for key in ("vmin", "vmax") if key in query}
    async with patience(request):
        low, high = (0, 0) if len(stated) == 2 else await limits_of(layer)
        limits = stated.get("vmin", low), stated.get("vmax", high)
        picture = await tile_async(layer.array, (*leading, rows, columns), limits, colours)
    return Response(picture, media_type="image/png", headers={"Cache-Control": "max-age=60"})


async def get_statistics(request: Request) -> Response:
    layer = layer_of(request)
    shape = layer.array.shape
    at = selection_of(request, layer, len(shape), slice(None))
    lengths = [len(range(n)[s]) for n, s in zip(shape, at, strict=True) if isinstance(s, slice)]
    if layer.array.dtype.kind not in "biuf" or math.prod(lengths) > MOST_ELEMENTS:
        raise HTTPException(400, f"statistics are of at most {MOST_ELEMENTS} numbers")
    async with patience(request):
        return JSONResponse(as_json(await statistics_async(layer.array, at)))


async def get_value(request: Request) -> Response:
    layer = layer_of(request)
    at = selection_of(request, layer, layer.array.ndim, slice(None))
    if not all(isinstance(item, int) for item in at):
        raise HTTPException(400, "a value needs one index along each dimension")
    async with patience(request):
        value = np.asarray(await layer.array.getitem_async(at))
    return JSONResponse({"value": as_json(value.tolist())})


async def get_about(request: Request) -> Response:
    layer = layer_of(request)
    about = dict(layer.about)
    if about["drawable"]:
        async with patience(request):
            about["range"] = await limits_of(layer)
    return JSONResponse(about)


async def get_index(request: Request) -> Response:
    headers = {"Vary": "Accept"}
    if "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(PAGE.read_text("utf-8"), headers=headers)
    arrays = [layer.about for layer in request.app.state.layers.values()]
    return JSONResponse({"arrays": arrays, "colours": COLOURS, "tile": TILE}, headers=headers)


async def get_health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def fail(request: Request, error: Exception) -> Response:
    late = f"the store did not answer within {request.app.state.seconds:g} s"
    text = getattr(error, "detail", "") or str(error) or late  # HTTPException has both
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    return JSONResponse({"error": text}, getattr(error, "status_code", status))


def create_app(store: Any, seconds: float = 30) -> Starlette:
    """Return the application; a request gets at most `seconds`, waiting for its turn included."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        app.state.layers, app.state.seconds = await open_layers_async(store), seconds
        yield

    routes = [
        Route("/health", get_health),
        Route("/", get_index),
        Route("/{name:path}/tiles/{z}/{y}/{x}.png", get_tile),
        Route("/{name:path}/statistics", get_statistics),
        Route("/{name:path}/value", get_value),
        Route("/{name:path}", get_about),
    ]
    handlers = dict.fromkeys([HTTPException, *STATUS], fail)
    return Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)


app = create_app(os.environ.get("ZARR_STORE", ""), float(os.environ.get("TILE_SECONDS", "30")))

if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/tile_server.py STORE [PORT]")
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 8000
    uvicorn.run(create_app(sys.argv[1]), port=port, access_log=False)
