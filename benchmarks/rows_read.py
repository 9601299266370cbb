"""Reading: what one call costs, what one chunk costs, and what a byte costs."""

from peers import Layout
from rows import Row, bare_codec, memcpy, read_files, read_row

ROWS: list[Row] = []

for where in ("memory", "local"):
    one = Layout((50, 100), (50, 100), where=where)
    file = {"open,_read,_close": read_files(1, 20_000)} if where == "local" else {}
    ROWS += [
        read_row(f"one raw chunk of 20 kB, {where}", one, memcpy=memcpy(one), **file),
        read_row(f"one element of it, {where}", one, (3, 4), **file),
    ]

    small = Layout((100, 100), (10, 10), where=where)
    files = {"open,_read,_close": read_files(100, 400)} if where == "local" else {}
    ROWS.append(read_row(f"100 raw chunks of 400 B, {where}", small, **files))

    # https://github.com/zarr-developers/zarr-python/issues/3524
    steps = Layout((60632, 4, 1, 10), (15158, 1, 1, 5), "float64", where=where)
    ROWS.append(read_row(f"a[::step], 32 raw chunks, {where}", steps, slice(None, None, 6063)))

    for codec in ("raw", "zstd", "blosc"):
        large = Layout((2048, 2048), (256, 256), codec=codec, where=where)
        floor = (
            {"memcpy": memcpy(large)}
            if codec == "raw"
            else {"bare_codec": bare_codec(large, decode=True)}
        )
        ROWS.append(read_row(f"16 MB, 64 {codec} chunks, {where}", large, **floor))
