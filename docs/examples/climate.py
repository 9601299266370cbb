# %% [markdown]
# # A reanalysis, day by day
#
# Temperatures on a globe, as a reanalysis such as ERA-Interim gives them, arrive one day after the other.
# They are appended, and read in two ways: all places of one day, and all days of one place.

# %%
import matplotlib.pyplot as plt
import numpy as np

import zarr_core as zarr
from zarr_core.codecs import BitRoundCodec

rng = np.random.default_rng(0)
latitude = np.linspace(90, -90, 73, dtype="float32")
longitude = np.arange(0, 360, 2.5, dtype="float32")
coast = np.add.outer(np.sin(np.radians(latitude * 3)), np.cos(np.radians(longitude * 2)))


def weather(day: int) -> np.ndarray:
    """Make up the temperatures of a day, in kelvin."""
    season = 15 * np.sin(2 * np.pi * day / 365) * np.sin(np.radians(latitude))[:, None]
    noise = rng.normal(size=coast.shape)
    return (
        288 - 45 * np.sin(np.radians(latitude))[:, None] ** 2 + season + 4 * coast + noise
    ).astype("f4")


# %% [markdown]
# Chunks that hold 30 days of a quarter of the globe suit both ways of reading. Ten significant bits are what
# the measurement is worth; the others would only be in the way of compression.

# %%
root = zarr.open_group("reanalysis.zarr", mode="w")
root.create_array("latitude", data=latitude, dimension_names=["latitude"])
root.create_array("longitude", data=longitude, dimension_names=["longitude"])
t2m = root.create_array(
    "t2m",
    shape=(0, 73, 144),
    chunks=(30, 37, 72),
    dtype="float32",
    fill_value=np.nan,
    filters=[BitRoundCodec(keepbits=10)],
    dimension_names=("time", "latitude", "longitude"),
    attributes={"units": "K"},
)
for month in range(12):
    t2m.append([weather(day) for day in range(30 * month, 30 * month + 30)])
t2m.info_complete()

# %% [markdown]
# A map of one day needs 4 of the 48 chunks, a year at one place 12.

# %%
places = {"Oslo": (60, 10), "Nairobi": (0, 37.5), "Hobart": (-42.5, 147.5)}
print(len(list(t2m.chunk_parts(200))), len(list(t2m.chunk_parts((slice(None), 12, 4)))))
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
picture = left.imshow(t2m[200] - 273.15, extent=(0, 360, -90, 90), cmap="coolwarm")
fig.colorbar(picture, label="°C", shrink=0.8)
left.set_title("one day")
selections = [
    (t2m, (slice(None), int(abs(latitude - y).argmin()), int(abs(longitude - x).argmin())))
    for y, x in places.values()
]
for name, series in zip(places, zarr.read_many(selections), strict=True):
    right.plot(series - 273.15, label=name)
right.set_title("one year, °C")
_ = right.legend()

# %% [markdown]
# The mean of the year, in the memory of one month:

# %%
total = np.zeros(t2m.shape[1:])
for start in range(0, t2m.shape[0], 30):
    total += t2m[start : start + 30].sum(0)
areas = np.cos(np.radians(latitude))
print(f"{np.average(total.mean(1), weights=areas) / t2m.shape[0] - 273.15:.1f} °C")
