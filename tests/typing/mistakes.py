# pyright: strict
"""A user's mistakes: both type checkers must report the lines that say so, and no others."""

import zarr_core as zarr


def synchronous(array: zarr.Array) -> None:
    zarr.create_array("a.zarr", shap=(1,), dtype="i4")  # wrong: misspelt
    zarr.open_array("a.zarr", mode="read")  # wrong: no such mode
    zarr.open_array("a.zarr", zarr_format=4)  # wrong: no such format
    zarr.create_array("a.zarr", shape=(1,), dtype="i4", chunks="foo")  # wrong: no lengths
    zarr.create_array("a.zarr", shape=(1,), dtype="i4", compressors=5)  # wrong: no codec
    zarr.create_array("a.zarr", shape=(1,), dtype="i4", serializer=[1])  # wrong: no codec
    zarr.create_array("a.zarr", shape=(1,), dtype=5)  # wrong: no data type
    zarr.create_arrray("a.zarr", shape=(1,))  # wrong: misspelt
    array.resize("large")  # wrong: not a shape
    array.append([1], axis="0")  # wrong: not a dimension
    array.reshape((1,))  # wrong: no such method
    array.path = "b"  # wrong: cannot be set
    total: str = array.nbytes  # wrong: an int
    print(total)


async def asynchronous(array: zarr.Array) -> None:
    await zarr.create_array_async("a.zarr", shap=(1,), dtype="i4")  # wrong: misspelt
    await zarr.open_array_async("a.zarr", zarr_format=4)  # wrong: no such format
    await array.resize_async("large")  # wrong: not a shape
    await array.append_async([1], axs=0)  # wrong: misspelt
    await array.getitem_async()  # wrong: what?
    await array.nbytes  # wrong: not awaitable
    shape: tuple[int, ...] = array.append_async([1])  # wrong: not awaited
    count: str = await array.nchunks_initialized_async()  # wrong: an int
    print(shape, count)
