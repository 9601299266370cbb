# %% [markdown]
# # Batches for training
#
# Small images in one large array, read in random order, batch after batch. What matters is how many chunks a
# batch touches: each is fetched and decoded whole.

# %%
import matplotlib.pyplot as plt
import numpy as np

import zarr_core as zarr

rng = np.random.default_rng(0)
count, side = 4096, 32
y, x = np.mgrid[:side, :side]
labels = rng.integers(0, 3, count)
centres = rng.uniform(10, 22, (count, 2, 1, 1))
distance = np.hypot(y - centres[:, 0], x - centres[:, 1])
shapes = [distance < 7, abs(distance - 7) < 1.5, abs(y - centres[:, 0]) + 0 * distance < 2]
images = np.choose(labels[:, None, None], shapes) * 160 + rng.integers(0, 60, (count, side, side))

# %% [markdown]
# Chunks of 16 images, 64 chunks in a shard: few files, and small pieces to decode.

# %%
root = zarr.open_group("images.zarr", mode="w")
pictures = root.create_array(
    "images", data=images.astype("uint8"), chunks=(16, side, side), shards=(1024, side, side)
)
targets = root.create_array("labels", data=labels.astype("uint8"), chunks=(1024,))
pictures

# %% [markdown]
# Wholly random batches touch almost as many chunks as they have images. Shuffling chunks, and the images of a
# few chunks, costs a twelfth of that, and the order is still random enough for training.

# %%
BATCH = 128


def random_batches() -> list[np.ndarray]:
    """Return the numbers of the images of every batch, in a wholly random order."""
    return np.split(rng.permutation(count), count // BATCH)


def shuffled_chunks() -> list[np.ndarray]:
    """Return them so that a batch is made of whole chunks."""
    chunks = rng.permutation(count // 16)[:, None] * 16 + np.arange(16)
    return [rng.permutation(part.ravel()) for part in np.split(chunks, count // BATCH)]


def chunks_touched(numbers: np.ndarray) -> int:
    return len(np.unique(numbers // 16))


orders = {"random": random_batches(), "chunks shuffled": shuffled_chunks()}
for name, batches in orders.items():
    print(f"{name}: {np.mean([chunks_touched(each) for each in batches]):.0f} chunks a batch")

# %% [markdown]
# `read_many` reads images and labels in one call; in an asynchronous loader `read_many_async` does. Arrays can
# be pickled, so a PyTorch `Dataset` that holds `pictures` works with any number of worker processes.

# %%
for numbers in orders["chunks shuffled"]:
    batch, wanted = zarr.read_many([(pictures, numbers), (targets, numbers)])
    assert batch.shape == (BATCH, side, side)
    assert (wanted == labels[numbers]).all()

fig, axes = plt.subplots(4, 8, figsize=(8, 4.3), layout="constrained")
for axis, picture, label in zip(axes.flat, batch, wanted, strict=False):
    axis.imshow(picture, cmap="gray", vmin=0, vmax=255)
    axis.set_title(["disc", "ring", "bar"][label], fontsize=8)
    axis.axis("off")
