"""The codecs `reshape` and `zarrs.squeeze`."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_codecs import assert_same, make_chain, make_spec

import zarr_core as zarr
from zarr_core.codecs import BytesCodec, ReshapeCodec, SqueezeCodec, codec_from_dict
from zarr_core.errors import MetadataValidationError


@pytest.mark.parametrize(
    ("before", "shape", "after"),
    [
        ((100, 50, 64, 3), [[0, 1], [2], 3], (5000, 64, 3)),  # the specification's example
        ((2, 3, 4), [[0, 1], -1], (6, 4)),
        ((2, 3, 4), [-1], (24,)),
        ((2, 3, 4), [[], [0], [1, 2], []], (1, 2, 12, 1)),
        ((2, 3, 4), [4, 6], (4, 6)),
        ((2, 3, 4), [2, 3, 2, 2], (2, 3, 2, 2)),
        ((2, 3, 1, 2), [[0], [1, 3]], (2, 6)),
        ((6,), [3, -1, 1], (3, 2, 1)),
        ((), [], ()),
        ((), [1, 1], (1, 1)),
        ((1, 1), [], ()),
        ((2, 2), [2, [1]], (2, 2)),
    ],
)
def test_shapes(before: Any, shape: Any, after: Any) -> None:
    codec = ReshapeCodec(shape=shape)
    stage = codec.bind(make_spec(before, "i4"))
    array = np.arange(math.prod(before), dtype="i4").reshape(before)
    assert stage.spec.shape == after
    assert_same(stage.encode(array), array.reshape(after))
    assert_same(stage.encode(np.asfortranarray(array)), array.reshape(after))
    assert_same(stage.decode(array.reshape(after)), array)
    assert np.shares_memory(stage.encode(array), array)
    assert codec_from_dict(codec.to_dict()) == codec


@pytest.mark.parametrize(
    ("before", "shape"),
    [
        ((2, 3), [[1], [0]]),
        ((2, 3, 4), [[1, 0], 4]),
        ((2, 3), [[0, 0], 3]),
        ((2, 3), [-1, -1]),
        ((2, 3), [[2], 6]),
        ((2, 3), [5]),
        ((2, 3), [4, -1]),
        ((2, 3), [12, -1]),
        ((2, 3), [0, -1]),
        ((2, 3), []),
        ((2, 3), [10**40]),
        ((2, 2), [[1], 2]),  # elements of axis 1 would be along another axis
        ((2, 3, 2), [[0, 2], 3]),
        ((2, 3, 2), [3, 2, [2]][::-1]),
        ((2, 3), [-2]),
        ((2, 3), [True, 6]),
        ((2, 3), [6.0]),
        ((2, 3), ["6"]),
        ((2, 3), [[[0], 1]]),
        ((2, 3), [[-1]]),
        ((2, 3), "6"),
        ((2, 3), 6),
        ((2, 3), None),
        ((2, 3), {"0": 6}),
        ((2, 3), [*[1] * 64, 6]),
    ],
)
def test_shapes_that_cannot_be_are_refused(before: Any, shape: Any) -> None:
    store: dict[str, bytes] = {}
    with pytest.raises(MetadataValidationError, match="reshape"):
        zarr.create_array(
            store,
            shape=before,
            chunks=before,
            dtype="i4",
            filters=[{"name": "reshape", "configuration": {"shape": shape}}],
        )
    assert store == {}


@pytest.mark.parametrize("settings", [{}, {"shape": [6], "order": "F"}])
def test_other_settings_are_refused(settings: Any) -> None:
    with pytest.raises(MetadataValidationError, match="reshape"):
        codec_from_dict({"name": "reshape", "configuration": settings})


def partitions(draw: Any, count: int) -> list[Any]:
    """Return a list of neighbouring axes for each axis of a result."""
    cuts = sorted(draw(st.sets(st.integers(0, count), max_size=count + 1)) | {0, count})
    return [list(range(a, b)) for a, b in pairwise(cuts)]


@given(st.data())
def test_arrays_come_back(data: Any) -> None:
    chunks = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    shape = [data.draw(st.integers(1, 5)) for _ in chunks]
    entries = partitions(data.draw, len(chunks))
    if entries and data.draw(st.booleans()):
        entries[data.draw(st.integers(0, len(entries) - 1))] = -1
    order = data.draw(st.permutations(range(len(chunks))))
    array = zarr.create_array(
        {},
        shape=shape,
        chunks=chunks,
        dtype="i4",
        filters=[
            {"name": "transpose", "configuration": {"order": list(order)}},
            data.draw(st.sampled_from([ReshapeCodec(shape=entries), SqueezeCodec()])),
        ],
    )
    values = np.arange(math.prod(shape), dtype="i4").reshape(shape)
    array[...] = values
    assert_same(array[...], values)
    assert_same(array[..., ::-1], values[..., ::-1])
    array[0] = 7
    values[0] = 7
    assert_same(array[...], values)


def test_lengths_follow_chunks_of_several_sizes() -> None:
    array = zarr.create_array(
        {}, shape=(5, 4), chunks=[[2, 3], [4]], dtype="i4", filters=[ReshapeCodec(shape=[[0, 1]])]
    )
    array[:] = values = np.arange(20).reshape(5, 4)
    assert array[:].tolist() == values.tolist()
    with pytest.raises(MetadataValidationError, match="chunks of shape"):
        zarr.create_array(
            {}, shape=(5, 4), chunks=[[2, 3], [4]], dtype="i4", filters=[ReshapeCodec(shape=[8])]
        )


@pytest.mark.parametrize(
    ("before", "after"),
    [((4, 1, 3, 1, 2, 1), (4, 3, 2)), ((2, 3), (2, 3)), ((1, 1), (1,)), ((), (1,))],
)
def test_axes_of_length_one_are_left_out(before: Any, after: Any) -> None:
    stage = SqueezeCodec().bind(make_spec(before, "i4"))
    array = np.arange(math.prod(before), dtype="i4").reshape(before)
    assert stage.spec.shape == after
    assert_same(stage.encode(array), array.reshape(after))
    assert_same(stage.decode(array.reshape(after)), array)


def test_a_squeeze_has_no_settings() -> None:
    assert SqueezeCodec().to_dict() == {"name": "zarrs.squeeze"}
    with pytest.raises(MetadataValidationError, match="unknown field 'axis'"):
        codec_from_dict({"name": "zarrs.squeeze", "configuration": {"axis": 0}})


def test_truncated_chunks_are_an_error() -> None:
    chain = make_chain((2, 3), "i4", ReshapeCodec(shape=[6]), BytesCodec(endian="little"))
    encoded = bytes(chain.encode(np.zeros((2, 3), "i4")))
    for wrong in (encoded[:-1], encoded + b"\0", b""):
        with pytest.raises(zarr.errors.CodecError):
            chain.decode(wrong)
