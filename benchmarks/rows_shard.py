"""Shards: one inner chunk, a whole shard, and an array of many."""

from peers import Layout
from rows import Row, read_row, write_row

ROWS: list[Row] = []

for where in ("memory", "local"):
    # One shard of 16 MB with 1,024 inner chunks.
    one = Layout((2048, 2048), (64, 64), codec="zstd", where=where, shards=(2048, 2048))
    four = Layout((2048, 2048), (64, 64), codec="zstd", where=where, shards=(1024, 1024))
    raw = Layout((2048, 2048), (64, 64), where=where, shards=(1024, 1024))
    ROWS += [
        read_row(f"one inner chunk of 1,024, {where}", one, (slice(64, 128), slice(64, 128))),
        read_row(f"16 MB, 1 shard of 1,024 zstd chunks, {where}", one),
        read_row(f"16 MB, 4 shards of 256 zstd chunks, {where}", four),
        read_row(f"16 MB, 4 shards of 256 raw chunks, {where}", raw),
        write_row(f"write 16 MB, 4 shards of 256 zstd chunks, {where}", four),
        write_row(f"write one inner chunk of 256, {where}", four, (slice(64, 128), slice(64, 128))),
    ]
