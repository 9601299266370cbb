"""Real elevation data as a chunked, compressed array: written, read in parts, grown, drawn.

    python examples/quickstart.py [DIRECTORY]

The elevation grid (Jacksboro fault, Tennessee; metres) comes with matplotlib. DIRECTORY, by default
`quickstart-output`, gets the array and a picture drawn from what was read back.
"""

import asyncio
import sys
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib import cbook, colors

import zarr_core as zarr

Grid = npt.NDArray[Any]


def create(place: Path, elevation: Grid, latitudes: tuple[float, float]) -> zarr.Array:
    """Write the grid as an array of format 3 in chunks of 64 x 64, compressed with zstd."""
    array = zarr.create_array(
        place,
        shape=elevation.shape,
        chunks=(64, 64),
        dtype=elevation.dtype,
        compressors=[zarr.codecs.ZstdCodec(level=5)],
        fill_value=-32768,
        dimension_names=["latitude", "longitude"],
        attributes={"units": "m", "latitudes": list(latitudes)},
        overwrite=True,
    )
    array[...] = elevation
    return array


async def read_windows(array: zarr.Array) -> list[Grid]:
    """Read four windows at the same time; the event loop stays free meanwhile."""
    corners = [(0, 0), (0, 200), (150, 0), (150, 200)]
    windows: list[Grid] = await asyncio.gather(
        *(array.getitem_async((slice(y, y + 100), slice(x, x + 100))) for y, x in corners)
    )
    return windows


def read_parts(array: zarr.Array, elevation: Grid) -> None:
    """Read sub-regions, synchronously and awaited, and compare them with the original."""
    profile, coarse = array[200], array[::8, ::8]
    assert np.array_equal(profile, elevation[200])
    assert np.array_equal(coarse, elevation[::8, ::8])
    print(f"row 200: {profile.min()} m to {profile.max()} m; every 8th point: {coarse.shape}")

    windows = asyncio.run(read_windows(array))
    assert np.array_equal(windows[0], elevation[:100, :100])
    print("four windows, awaited: means", *(f"{window.mean():.0f} m" for window in windows))


def grow(array: zarr.Array, elevation: Grid) -> None:
    """Double the rows: the first half of them by resizing, the rest by appending."""
    rows, columns = elevation.shape
    half = rows // 2
    array.resize((rows + half, columns))
    array[rows:] = elevation[:half]
    array.append(elevation[half:])
    assert np.array_equal(array[rows:], elevation)
    print(f"grown from {elevation.shape} to {array.shape}")


def show_store(place: Path, array: zarr.Array) -> None:
    """Print what stands in the directory, and what compression saved."""
    files = sorted(path for path in place.rglob("*") if path.is_file())
    for path in [*files[:4], *files[-3:]]:
        print(f"  {path.relative_to(place)!s:12} {path.stat().st_size:7,} bytes")
    stored = sum(path.stat().st_size for path in files)
    print(
        f"{len(files)} files, {stored:,} bytes for {array.nbytes:,}: {array.nbytes / stored:.2f}:1"
    )


def draw(array: zarr.Array, picture: Path) -> None:
    """Draw the first half of the array with hill shading."""
    elevation = array[: array.shape[0] // 2]
    light = colors.LightSource(azdeg=315, altdeg=45)
    shaded = light.shade(
        elevation, mpl.colormaps["gist_earth"], blend_mode="soft", vert_exag=0.05, dx=1, dy=1
    )
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    axes.imshow(shaded)
    axes.set(title="Elevation, read back from zarr_core", xlabel="column", ylabel="row")
    figure.savefig(picture, dpi=100)
    plt.close(figure)


def main() -> None:
    out = Path(sys.argv[1] if len(sys.argv) > 1 else "quickstart-output")
    out.mkdir(parents=True, exist_ok=True)
    with np.load(str(cbook.get_sample_data("jacksboro_fault_dem.npz", asfileobj=False))) as sample:
        elevation = sample["elevation"]
        latitudes = float(sample["ymin"]), float(sample["ymax"])

    place, picture = out / "elevation.zarr", out / "elevation.png"
    create(place, elevation, latitudes)
    array = zarr.open_array(place, mode="r+")
    print(array)
    read_parts(array, elevation)
    grow(array, elevation)
    show_store(place, array)
    draw(zarr.open_array(place, mode="r"), picture)
    print(f"drawn from what was read back: {picture}")


if __name__ == "__main__":
    mpl.use("Agg")
    main()
