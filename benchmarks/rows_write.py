"""Writing over what is there: one chunk, part of a chunk, many small chunks, many bytes."""

from typing import Any

from peers import Layout
from rows import Row, bare_codec, memcpy, write_files, write_row

ROWS: list[Row] = []


def files(where: str, number: int, nbytes: int) -> dict[str, Any]:
    """Return the floor that only arrays in files have."""
    return {"open,_write,_close,_rename": write_files(number, nbytes)} if where == "local" else {}


for where in ("memory", "local"):
    one = Layout((50, 100), (50, 100), where=where)
    small = Layout((100, 100), (10, 10), where=where)
    floors = {"memcpy": memcpy(one), **files(where, 1, 20_000)}
    ROWS += [
        write_row(f"one raw chunk of 20 kB, {where}", one, **floors),
        # The chunk is read, changed and stored.
        write_row(f"one row of it, {where}", one, (slice(3, 4), slice(None)), **floors),
    ]
    floors = {"memcpy": memcpy(small), **files(where, 100, 400)}
    ROWS.append(write_row(f"100 raw chunks of 400 B, {where}", small, **floors))

    for codec in ("raw", "zstd", "blosc", "gzip"):
        large = Layout((2048, 2048), (256, 256), codec=codec, where=where)
        floors = {"bare_codec": bare_codec(large, decode=False)}
        if codec == "raw":
            floors = {"memcpy": memcpy(large), **files(where, 64, 4 * 256 * 256)}
        ROWS.append(write_row(f"16 MB, 64 {codec} chunks, {where}", large, **floors))

    tiles = Layout((2048, 2048), (64, 64), codec="zstd", where=where)
    floors = {"bare_codec": bare_codec(tiles, decode=False), **files(where, 1024, 8_000)}
    ROWS.append(write_row(f"16 MB, 1,024 zstd chunks, {where}", tiles, **floors))
