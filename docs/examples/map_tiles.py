# %% [markdown]
# # Map tiles over HTTP
#
# A web server that answers `/tiles/Z/Y/X.png` from a pyramid of arrays. Each request awaits one call, which
# runs in a worker thread; the event loop stays free for others. [A tile server](../tile-server.md) has it with
# everything that a real one needs.

# %%
import io
import threading
import time
from urllib.error import HTTPError
from urllib.request import urlopen

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

import zarr_core as zarr

TILE = 128

# %% [markdown]
# The map: a Mandelbrot set of 512 × 512 points, and coarser copies.

# %%
plane = np.add.outer(1j * np.linspace(-1.25, 1.25, 512), np.linspace(-2, 0.5, 512))
z, steps = np.zeros_like(plane), np.zeros(plane.shape, "uint8")
for _ in range(60):
    inside = abs(z) < 2
    z[inside] = z[inside] ** 2 + plane[inside]
    steps += inside
root = zarr.open_group("map.zarr", mode="w")
for level in range(3):
    root.create_array(str(level), data=steps[:: 4 >> level, :: 4 >> level], chunks=(TILE, TILE))
root.tree()

# %% [markdown]
# The server:


# %%
async def tile(request: Request) -> Response:
    """Answer with one tile as PNG."""
    level, row, column = (request.path_params[name] for name in ("z", "y", "x"))
    try:
        array = await root.getitem_async(str(level))
        values = await array.get_block_selection_async((row, column))
    except (KeyError, IndexError):
        raise HTTPException(404, "there is no such tile") from None
    png = io.BytesIO()
    matplotlib.image.imsave(png, values, vmin=0, vmax=60, cmap="magma", format="png")
    return Response(png.getvalue(), media_type="image/png")


app = Starlette(routes=[Route("/tiles/{z:int}/{y:int}/{x:int}.png", tile)])

# %% [markdown]
# `uvicorn module:app` would serve it. Here it runs in a thread, and is asked for the 16 tiles of the finest
# level:

# %%
server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started:
    time.sleep(0.01)
port = server.servers[0].sockets[0].getsockname()[1]


def fetch(level: int, row: int, column: int) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/tiles/{level}/{row}/{column}.png") as answer:
        return answer.read()


answers = {(row, column): fetch(2, row, column) for row in range(4) for column in range(4)}
try:
    fetch(9, 0, 0)
except HTTPError as error:
    print("level 9:", error.code)
server.should_exit = True
thread.join()

# %%
fig, axes = plt.subplots(4, 4, figsize=(5, 5), gridspec_kw={"wspace": 0.05, "hspace": 0.05})
for place, answer in answers.items():
    axes[place].imshow(matplotlib.image.imread(io.BytesIO(answer)))
    axes[place].axis("off")
