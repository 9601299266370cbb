# %% [markdown]
# # Elevation, coarse to fine
#
# A landscape around Jacksboro, Tennessee, 344 × 403 heights that matplotlib brings along, becomes a pyramid:
# the same map at several resolutions, so that a small picture reads little.

# %%
import matplotlib.cbook
import matplotlib.pyplot as plt
import numpy as np

import zarr_core as zarr

heights = matplotlib.cbook.get_sample_data("jacksboro_fault_dem.npz")["elevation"]
root = zarr.open_group("landscape.zarr", mode="w", attributes={"title": "Jacksboro fault"})

# %% [markdown]
# Each level is an array with chunks of 64 × 64. Coarser ones are means of 2 × 2 heights.

# %%
level = heights.astype("float32")
for number in range(4):
    array = root.create_array(
        f"level/{number}",
        data=level,
        chunks=(64, 64),
        dimension_names=("y", "x"),
        attributes={"units": "m", "pixel": 2**number},
    )
    even = level[: level.shape[0] // 2 * 2, : level.shape[1] // 2 * 2]
    level = even.reshape(even.shape[0] // 2, 2, even.shape[1] // 2, 2).mean((1, 3))
root

# %% [markdown]
# An array shows its chunks, sizes and codecs.

# %%
root["level/0"]

# %% [markdown]
# Reading the whole map at level 2 takes a few chunks; reading a detail at level 0 takes those that the
# detail touches. `chunk_parts` says which, without reading anything.

# %%
overview = root["level/2"]
detail = (slice(120, 200), slice(180, 280))
needed = len(list(overview.chunk_parts(...))), len(list(root["level/0"].chunk_parts(detail)))
print(
    f"chunks: {needed[0]} for the overview, {needed[1]} for the detail, {root['level/0'].nchunks} in all"
)
assert needed == (4, 9)

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4), layout="constrained")
left.imshow(overview[...], cmap="terrain", extent=(0, 403, 344, 0))
left.set_title("level 2, all of it")
left.add_patch(plt.Rectangle((180, 120), 100, 80, fill=False, edgecolor="red"))
shaded = np.gradient(root["level/0"][detail])[0]
right.imshow(shaded, cmap="gray", extent=(180, 280, 200, 120))
_ = right.set_title("level 0, slopes of a detail")
