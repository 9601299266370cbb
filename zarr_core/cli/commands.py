"""The commands: each calls a function of the library and prints what it returns."""

import io
import json
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import typer

from zarr_core import api, converting, copying
from zarr_core.array.array import Array
from zarr_core.cli.output import Commands, plain, say, show, show_json, show_table, working
from zarr_core.config import config
from zarr_core.group import Group
from zarr_core.hierarchy.info import Branch, human_bytes, shown_type
from zarr_core.storage import StorePath, ZipStore, store_from

app: Final = typer.Typer(
    cls=Commands,
    name="zarr-core",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Look at, check, copy and serve Zarr arrays and groups, of format 3 and 2.",
    epilog="A PLACE is a directory, a file `*.zip` or `*.sqlite`, or a URL (`s3://`, `https://`, ...).",
)


def _files(incomplete: str) -> list[str]:
    """Return the files and directories that begin with what is typed."""
    start = Path(incomplete)
    directory = start if incomplete.endswith("/") else start.parent
    prefix = "" if incomplete.endswith("/") else start.name
    if not directory.is_dir():
        return []
    found = (entry for entry in directory.iterdir() if entry.name.startswith(prefix))
    return sorted(f"{entry}/" if entry.is_dir() else str(entry) for entry in found)


Place = Annotated[str, typer.Argument(metavar="PLACE", help="Where it is.", autocompletion=_files)]
Dest = Annotated[str, typer.Argument(metavar="DEST", help="Where it goes.", autocompletion=_files)]
Inside = Annotated[str, typer.Option("--path", "-p", metavar="PATH", help="The node in the store.")]
Options = Annotated[
    list[str] | None,
    typer.Option("--option", "-o", metavar="KEY=VALUE", help="Of the file system behind a URL."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Select = Annotated[
    str,
    typer.Option("--select", "-s", metavar="SELECTION", help="As in brackets: `0:10, ::2, -1`."),
]


def _bytes(text: str) -> int:
    """Return a number of bytes such as `500MB` or `2GiB`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?) *([kKMGT]?)(i?)B?", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no number of bytes such as 500MB")
    number, prefix, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGT".index(prefix.upper() or " "))


MaxBytes = Annotated[
    int | None,
    typer.Option(metavar="BYTES", parser=_bytes, help="Memory for data; 256MB by default."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]


def _options(texts: list[str] | None) -> dict[str, Any] | None:
    found: dict[str, Any] = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise typer.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--option")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found or None


def _place(place: str, path: str = "", options: list[str] | None = None) -> StorePath:
    return store_from(place, path=path, read_only=True, storage_options=_options(options))


@contextmanager
def _written(place: str, path: str = "") -> Iterator[StorePath]:
    """Open a place to write to it; a zip file is complete at the end."""
    target = store_from(place, path=path)
    with target.store:
        yield target


def _open(place: str, path: str, options: list[str] | None) -> Any:
    return api.open(_place(place, path, options), mode="r")


def _array(place: str, path: str, options: list[str] | None) -> Array:
    node = _open(place, path, options)
    if isinstance(node, Group):
        names = (name for name, member in node.members(None) if isinstance(member, Array))
        some = ", ".join(islice(names, 8)) or "it has none"
        raise typer.BadParameter(f"{place} is a group; say with --path which array: {some}")
    return node  # type: ignore[no-any-return]


def _selection(text: str) -> Any:
    """Return what a selection means that is written as in brackets."""
    items: list[Any] = []
    for part in text.split(",") if text.strip() else ():
        numbers = part.strip().split(":")
        try:
            if numbers == ["..."]:
                items.append(...)
            elif len(numbers) == 1:
                items.append(int(numbers[0]))
            else:
                items.append(slice(*(int(n) if n.strip() else None for n in numbers)))
        except (ValueError, TypeError):
            message = f"{part.strip()!r} is neither a number nor START:STOP:STEP"
            raise typer.BadParameter(message, param_hint="--select") from None
    return tuple(items) if items else ...


def _summary(node: Any) -> dict[str, Any]:
    if isinstance(node, Group):
        return {"node_type": "group", "zarr_format": node.metadata.zarr_format}
    regular = node.metadata.chunk_grid.chunk_shape is not None
    return {
        "node_type": "array",
        "zarr_format": node.metadata.zarr_format,
        "shape": node.shape,
        "dtype": shown_type(node.metadata),
        "chunks": node.chunks if regular else None,
        "shards": node.shards if regular else None,
    }


# --- looking -----------------------------------------------------------------------------------------


@app.command()
def info(place: Place, path: Inside = "", option: Options = None, as_json: AsJson = False) -> None:
    """Show what an array or a group is, without reading data.

    - `zarr-core info air.zarr`
    - `zarr-core info data.zip --path a/b --json`
    """
    node = _open(place, path, option)
    attributes = node.attrs.asdict()
    if as_json:
        metadata = node.metadata.to_dict()
        metadata.pop("consolidated_metadata", None)
        show_json({"place": str(node.store_path), **_summary(node), "metadata": metadata})
        return
    show(node.info)
    if attributes:
        show("Attributes")
        show_table(
            (),
            [
                (f"  {name}", json.dumps(value, ensure_ascii=False))
                for name, value in attributes.items()
            ],
        )


@app.command()
def tree(
    place: Place,
    path: Inside = "",
    depth: Annotated[int | None, typer.Option(min=0, help="Levels below; all by default.")] = None,
    max_nodes: Annotated[int, typer.Option(min=1, help="Draw no more nodes.")] = 500,
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Draw what is below a group.

    - `zarr-core tree climate.zarr --depth 1`
    - `zarr-core tree s3://bucket/x.zarr -o anon=true`
    """
    node = _open(place, path, option)
    if isinstance(node, Array):
        show_json(_branch(Branch(node.name, "", []))) if as_json else show(node)
        return
    level = None if depth is None else depth - 1
    drawing = node.tree(level=level, max_nodes=max_nodes) if depth != 0 else node.name
    if as_json:
        show_json(_branch(drawing.root if depth != 0 else Branch(node.name, "", [])))
    else:
        show(drawing)


def _branch(branch: Branch) -> dict[str, Any]:
    children = [_branch(child) for child in branch.children]
    return {"name": branch.name, "detail": branch.detail, "children": children}


@app.command("ls")
def list_nodes(
    place: Place,
    path: Inside = "",
    long: Annotated[bool, typer.Option("--long", "-l", help="What they are, too.")] = False,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="All below.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="The keys of the store.")] = False,
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """List the members of a group, or the keys of a store.

    - `zarr-core ls climate.zarr -l`
    - `zarr-core ls climate.zarr -r --json`
    - `zarr-core ls climate.zarr --keys`
    """
    if keys:
        _list_keys(_place(place, path, option), long=long, as_json=as_json)
        return
    node = _open(place, path, option)
    members = (
        node.members(None if recursive else 0)
        if isinstance(node, Group)
        else ((node.basename or ".", node),)
    )
    found = [{"path": name, **_summary(member)} for name, member in members]
    if as_json:
        show_json(found)
    elif long:
        columns = ("path", "node_type", "shape", "dtype", "chunks", "shards")
        show_table(columns, [[row.get(column) for column in columns] for row in found])
    else:
        for row in found:
            show(row["path"])


def _list_keys(place: StorePath, *, long: bool, as_json: bool) -> None:
    store = place.store
    found = sorted(store.list_prefix(place.path))
    if not found:
        raise FileNotFoundError(f"there are no keys at {place}")
    sizes = [store.getsize(key) for key in found] if long else []
    if as_json:
        pairs = zip(found, sizes, strict=True)
        show_json([{"key": key, "size": size} for key, size in pairs] if long else found)
    elif long:
        show_table(("size", "key"), list(zip(sizes, found, strict=True)), right="size")
    else:
        for key in found:
            show(key)


@app.command()
def cat(
    place: Place,
    path: Inside = "",
    select: Select = "",
    field: Annotated[str | None, typer.Option(help="A field of a structured data type.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-O", help="A file; `.npy` for NumPy's format.")
    ] = None,
    npy: Annotated[bool, typer.Option("--npy", help="NumPy's format.")] = False,
    full: Annotated[bool, typer.Option("--full", help="No `...` in place of elements.")] = False,
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Print the elements of a selection, as text, JSON or `.npy`.

    - `zarr-core cat air.zarr -s "0, :5, :5"`
    - `zarr-core cat air.zarr -s 0 -O first.npy`
    """
    array = _array(place, path, option)
    with working("reading"):
        values = np.asarray(array.getitem(_selection(select), fields=field))
    if npy or (output is not None and output.suffix == ".npy"):
        data = io.BytesIO()
        np.save(data, values, allow_pickle=False)
        if output is not None:
            output.write_bytes(data.getvalue())
        else:
            sys.stdout.buffer.write(data.getvalue())
        return
    if as_json:
        about = {"shape": values.shape, "dtype": str(values.dtype), "data": values.tolist()}
        text = json.dumps(plain(about), ensure_ascii=False)
    else:
        text = np.array2string(values, threshold=sys.maxsize if full else 1000, max_line_width=100)
    if output is None:
        show(text)
    else:
        output.write_text(f"{text}\n", "utf-8")


@app.command()
def stats(place: Place, path: Inside = "", option: Options = None, as_json: AsJson = False) -> None:
    """Show what is stored: sizes, ratios, missing chunks.

    Lists the store; no chunk is read.

    - `zarr-core stats climate.zarr`
    """
    node = _open(place, path, option)
    arrays = node.members(None) if isinstance(node, Group) else (("", node),)
    infos = [(name, a.info_complete()) for name, a in arrays if isinstance(a, Array)]
    rows = [
        {
            "path": f"/{name}",
            "chunks": about._count_chunks,
            "missing": about._count_chunks - (about._count_chunks_initialized or 0),
            "bytes": about._count_bytes,
            "bytes_stored": about._count_bytes_stored,
            "ratio": round((about._count_bytes or 0) / (about._count_bytes_stored or 1), 2),
        }
        for name, about in infos
    ]
    total: dict[str, Any] = {"path": "total"}
    for name in ("chunks", "missing", "bytes", "bytes_stored"):
        total[name] = sum(row[name] or 0 for row in rows)
    total["ratio"] = round(total["bytes"] / (total["bytes_stored"] or 1), 2)
    if as_json:
        show_json({"arrays": rows, "total": total})
        return
    columns = ("path", "chunks", "missing", "bytes", "bytes_stored", "ratio")
    show_table(
        columns, [[row[c] for c in columns] for row in [*rows, total]], " ".join(columns[1:])
    )


@app.command()
def verify(
    place: Place,
    path: Inside = "",
    data: Annotated[bool, typer.Option(help="Read and decode the chunks, too.")] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Look for what is wrong; exit code 1 if something is.

    - `zarr-core verify climate.zarr`
    - `zarr-core verify s3://bucket/x.zarr --no-data --strict --json`
    """
    with working("verifying"):
        report = api.verify(_place(place, path, option), data=data)
    if as_json:
        show_json({**report._asdict(), "problems": [p._asdict() for p in report.problems]})
    else:
        show(report)
    if report.errors or (strict and report.problems):
        raise typer.Exit(1)


@app.command()
def bench(
    place: Place,
    path: Inside = "",
    select: Select = "",
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Measure how fast a selection is read, and what other codecs would change.

    - `zarr-core bench air.zarr`
    - `zarr-core bench air.zarr -s "0, :100, :100"`
    """
    from zarr_core.cli.bench import MOST_BYTES, seconds_of, trials

    array, selection = _array(place, path, option), _selection(select)
    explained = array.explain(selection)
    is_read = explained.bytes_used <= MOST_BYTES
    seconds = seconds_of(array, selection) if is_read else None
    found = trials(array)
    if as_json:
        about = {**vars(explained), "amplification": explained.amplification}
        about["seconds"] = seconds
        show_json({"selection": about, "codecs": [trial._asdict() for trial in found]})
        return
    show(explained)
    if seconds is not None:
        show(f"All read in    : {seconds:.3g} s, {explained.bytes_used / seconds / 1e6:,.0f} MB/s")
    if found:
        show(
            f"\nSome of its chunks in memory, {config.get('threading.max_workers') or 'all'} threads"
        )
        rows = [(t.codecs, f"{t.ratio:.2f}", f"{t.mb_per_second:,.0f}") for t in found]
        show_table(("codecs", "ratio", "MB/s"), rows, right="ratio MB/s")


# --- changing ----------------------------------------------------------------------------------------


@app.command()
def copy(
    place: Place,
    dest: Dest,
    path: Inside = "",
    if_exists: Annotated[
        Literal["raise", "replace", "skip"], typer.Option(help="What to do about keys that exist.")
    ] = "raise",
    exclude: Annotated[list[str] | None, typer.Option(help="Leave out keys that match.")] = None,
    dry_run: DryRun = False,
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Copy what is stored as it is, between any two places.

    - `zarr-core copy s3://bucket/x.zarr x.zarr -o anon=true`
    - `zarr-core copy x.zarr x.zip --dry-run`
    """
    with working("copying"), _written(dest) as target:
        counts = copying.copy_store(
            _place(place, path, option),
            target,
            excludes=exclude,
            if_exists=if_exists,
            dry_run=dry_run,
            log=_log(dry_run),
        )
    if not any(counts):
        raise FileNotFoundError(f"there are no keys at {place}, or they cannot be listed")
    _show_counts("copied", counts, as_json=as_json, dry_run=dry_run)


def _log(dry_run: bool) -> Any:
    return say if dry_run else None


def _show_counts(word: str, counts: tuple[int, int, int], *, as_json: bool, dry_run: bool) -> None:
    done, skipped, nbytes = counts
    if as_json:
        show_json({word: done, "skipped": skipped, "bytes": nbytes, "dry_run": dry_run})
    else:
        would = "would be " if dry_run else ""
        show(f"{done} {would}{word}, {skipped} skipped, {human_bytes(nbytes)} bytes")


@app.command()
def rechunk(
    place: Place,
    dest: Dest,
    path: Inside = "",
    chunks: Annotated[
        str, typer.Option(metavar="LENGTHS", help="Such as `100,200`; `keep` or `auto`.")
    ] = "keep",
    shards: Annotated[
        str | None, typer.Option(metavar="LENGTHS", help="Of shards; without, none.")
    ] = None,
    max_bytes: MaxBytes = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Copy an array into one with other chunks or shards, in bounded memory.

    Killed and started again, it goes on where it was.

    - `zarr-core rechunk air.zarr by-time.zarr --chunks 1000,10,10`
    - `zarr-core rechunk air.zarr s.zarr --chunks 10,10,10 --shards 100,100,100 --max-bytes 1GB`
    """
    source = _array(place, path, option)
    given: Any = {"chunks": _lengths(chunks, "--chunks")}
    if shards is not None:
        given["shards"] = _lengths(shards, "--shards")
    with working("rechunking"), _written(dest) as target:
        made = copying.rechunk(source, target, **given, max_bytes=max_bytes, overwrite=overwrite)
    show_json(_summary(made)) if as_json else show(made.info)


def _lengths(text: str, option: str) -> Any:
    if text in ("keep", "auto"):
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        message = f"{text!r} is no list of lengths such as 100,200"
        raise typer.BadParameter(message, param_hint=option) from None


@app.command()
def convert(
    place: Place,
    dest: Annotated[
        str | None,
        typer.Argument(metavar="DEST", help="Where data go, too.", autocompletion=_files),
    ] = None,
    to: Annotated[int, typer.Option(min=2, max=3, help="The format of the result.")] = 3,
    data: Annotated[bool | None, typer.Option(help="Chunks, too: where there is a DEST.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace other nodes.")] = False,
    remove_old: Annotated[
        bool,
        typer.Option("--remove-old", help="Remove the documents of the old format at the end."),
    ] = False,
    max_bytes: MaxBytes = None,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Describe nodes in the other format: beside the old documents, or with data in DEST.

    - `zarr-core convert old.zarr --dry-run`
    - `zarr-core convert old.zarr --remove-old`
    - `zarr-core convert old.zarr new.zarr --to 3`
    """
    reading = _written(place) if dest is None else nullcontext(_place(place))
    with (
        working("converting"),
        reading as source,
        nullcontext() if dest is None else _written(dest) as target,
    ):
        counts = converting.convert(
            source,
            target,
            zarr_format=to,  # type: ignore[arg-type]
            data=data,
            overwrite=overwrite,
            remove_old=remove_old,
            max_bytes=max_bytes,
            dry_run=dry_run,
            log=_log(dry_run),
        )
    _show_counts("converted", counts, as_json=as_json, dry_run=dry_run)


@app.command("remove-metadata")
def remove_metadata(
    place: Place,
    of: Annotated[int, typer.Option("--format", min=2, max=3, help="Of which format.")],
    force: Annotated[
        bool, typer.Option("--force", help="Also what alone describes a node.")
    ] = False,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Remove the documents of one format from a node and all below it; chunks stay.

    - `zarr-core remove-metadata both.zarr --format 2 --dry-run`
    """
    with _written(place) as target:
        keys = converting.remove_metadata(target, of, force=force, dry_run=dry_run)  # type: ignore[arg-type]
    if as_json:
        show_json(keys)
        return
    for key in keys:
        show(key)


@app.command()
def consolidate(place: Place, path: Inside = "", as_json: AsJson = False) -> None:
    """Store copies of all documents below a group with it: one request opens it then.

    - `zarr-core consolidate climate.zarr`
    """
    with warnings.catch_warnings(), _written(place, path) as target:
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part")
        nodes = api.consolidate_metadata(target).nmembers(None)
    show_json({"nodes": nodes}) if as_json else show(f"{nodes} nodes are consolidated")


@app.command()
def repack(
    place: Place,
    dest: Annotated[
        str | None, typer.Argument(metavar="DEST", help="A zip file; PLACE itself by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a zip file anew, without what was replaced in it, or one of another place.

    The new file takes the place of the old one when it is complete.

    - `zarr-core repack x.zip`
    - `zarr-core repack x.zarr x.zip`
    """
    target = Path(dest or place)
    if target.suffix != ".zip":
        raise typer.BadParameter(f"{target} is not a zip file", param_hint="DEST")
    before = target.stat().st_size if target.exists() else None
    with working("repacking"), ZipStore(target, mode="w") as zipped:
        counts = copying.copy_store(_place(place), zipped)
    size = target.stat().st_size
    if as_json:
        show_json({"values": counts[0], "bytes": size, "bytes_before": before})
    else:
        show(
            f"{counts[0]} values, {human_bytes(size)} bytes"
            + (f", before {before}" if before else "")
        )


@app.command()
def serve(
    place: Place,
    path: Inside = "",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    cors: Annotated[
        bool, typer.Option("--cors", help="Let pages of any site read it in a browser.")
    ] = False,
    option: Options = None,
    as_json: AsJson = False,
) -> None:
    """Serve documents and chunks over HTTP, read-only.

    The root is a page about the node; programs open the URL.

    - `zarr-core serve climate.zarr --port 8080`
    - `zarr-core info http://127.0.0.1:8080`
    """
    import socket

    import uvicorn

    from zarr_core.cli.serve import store_app

    listening = socket.create_server((host, port))
    url = f"http://{host}:{listening.getsockname()[1]}"
    show_json({"url": url}) if as_json else show(f"{place} is at {url}")
    sys.stdout.flush()
    application = store_app(_place(place, path, option), cors=cors)
    server = uvicorn.Server(uvicorn.Config(application, log_level="warning"))
    with listening:
        server.run(sockets=[listening])
