"""Writing over what is there: one chunk, part of a chunk, many small chunks, many bytes."""

from peers import Layout
from rows import Row, bare_codec, memcpy, write_row

ROWS: list[Row] = []

for where in ("memory", "local"):
    one = Layout((50, 100), (50, 100), where=where)
    ROWS += [
        write_row(f"one raw chunk of 20 kB, {where}", one, memcpy=memcpy(one)),
        write_row(f"one row of it, {where}", one, (slice(3, 4), slice(None))),
        write_row(f"100 raw chunks of 400 B, {where}", Layout((100, 100), (10, 10), where=where)),
    ]

    for codec in ("raw", "zstd", "blosc"):
        large = Layout((2048, 2048), (256, 256), codec=codec, where=where)
        floor = (
            {"memcpy": memcpy(large)}
            if codec == "raw"
            else {"bare_codec": bare_codec(large, decode=False)}
        )
        ROWS.append(write_row(f"16 MB, 64 {codec} chunks, {where}", large, **floor))
