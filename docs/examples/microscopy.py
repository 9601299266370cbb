# %% [markdown]
# # A microscopy pyramid
#
# An image of cells in three channels, stored at three resolutions with the metadata of OME-NGFF 0.5, which
# viewers such as napari and Viv read. The chunks that a viewer wants are small, so they are put together in
# shards: few files, small reads.

# %%
import matplotlib.pyplot as plt
import numpy as np

import zarr_core as zarr

rng = np.random.default_rng(0)
size = 512
y, x = np.mgrid[:size, :size].astype("float32")
image = np.zeros((3, size, size), "float32")
for _ in range(60):
    cy, cx = rng.uniform(0, size, 2)
    distance = (y - cy) ** 2 + (x - cx) ** 2
    radius = rng.uniform(9, 22)
    image[0] += np.exp(-distance / (2 * (radius / 2.2) ** 2))  # nucleus
    image[1] += np.exp(-((np.sqrt(distance) - radius) ** 2) / 8)  # membrane
image[2] = rng.gamma(2, 0.15, image[2].shape)  # what the camera adds
cells = (np.clip(image, 0, 1) * 4095).astype("uint16")

# %%
root = zarr.open_group("cells.zarr", mode="w")
levels = []
for number in range(3):
    root.create_array(
        str(number),
        data=cells[:, :: 2**number, :: 2**number],
        chunks=(1, 32, 32),
        shards=(1, 256 >> number, 256 >> number),
        dimension_names=("c", "y", "x"),
    )
    scale = {"type": "scale", "scale": [1.0, 0.3 * 2**number, 0.3 * 2**number]}
    levels.append({"path": str(number), "coordinateTransformations": [scale]})
axes = [{"name": "c", "type": "channel"}]
axes += [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
root.attrs["ome"] = {
    "version": "0.5",
    "multiscales": [{"name": "cells", "axes": axes, "datasets": levels}],
}
root["0"].info_complete()

# %% [markdown]
# A viewer that is zoomed out reads the coarsest level, one that is zoomed in a few inner chunks of the
# finest: of each shard its index and these chunks, not the whole.

# %%
fine, coarse = root["0"], root["2"]
window = (slice(0, 2), slice(200, 320), slice(150, 270))
with zarr.trace() as trace:
    detail = fine[window]
fetched = sum(row.nbytes for row in trace.rows if row.is_request)
print(f"{fetched / 1e3:.0f} kB were fetched of {fine.nbytes_stored() / 1e3:.0f} kB")


def coloured(channels: np.ndarray) -> np.ndarray:
    """Return two channels as magenta and green."""
    nuclei, membranes = channels[:2] / 4095
    return np.stack([nuclei, membranes, nuclei], -1)


fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.4), layout="constrained")
left.imshow(coloured(coarse[:2]), extent=(0, size, size, 0))
left.add_patch(plt.Rectangle((150, 200), 120, 120, fill=False, edgecolor="white"))
left.set_title("level 2")
right.imshow(coloured(detail), extent=(150, 270, 320, 200))
_ = right.set_title("level 0")
