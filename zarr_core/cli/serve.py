"""A store over HTTP, read-only: what is behind a URL is the value of the key that its path is."""

import re
from html import escape
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from zarr_core.api import open
from zarr_core.errors import BaseZarrError, InvalidKeyError, StoreError
from zarr_core.group import Group
from zarr_core.metadata.documents import DOCUMENTS
from zarr_core.storage.base import RangeByteRequest
from zarr_core.storage.paths import StorePath
from zarr_core.threads.requests import each
from zarr_core.threads.twins import async_twin

_RANGES = {"Accept-Ranges": "bytes"}
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def store_app(place: StorePath, *, cors: bool = False) -> Starlette:
    """Return the application; `/` is a page about the node.

    Parameters
    ----------
    place
        What is served: the keys below it.
    cors
        Let the pages of any site read it in a browser.
    """

    async def get(request: Request) -> Response:
        key = request.path_params["key"]
        if not key or key.endswith("/"):
            return await _page_async(place, key)
        asked = _RANGE.fullmatch(request.headers.get("range", ""))
        head = request.method == "HEAD"
        return await _answer_async(place, key, asked.groups() if asked else None, head)

    allowed: dict[str, Any] = {"allow_origins": ["*"], "allow_headers": ["*"]}
    allowed["expose_headers"] = ["Content-Range", "Content-Length", "Accept-Ranges"]
    middleware = [Middleware(CORSMiddleware, **allowed)] if cors else []
    return Starlette(
        routes=[Route("/{key:path}", get)],
        middleware=middleware,
        exception_handlers={InvalidKeyError: _missing, OSError: _failed},
    )


async def _missing(request: Request, error: Exception) -> Response:
    return PlainTextResponse("there is no such key\n", 404)


async def _failed(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"{error}\n", 502)


def _answer(place: StorePath, name: str, asked: tuple[str, ...] | None, head: bool) -> Response:
    """Return the response to a request for a value, or a range of it."""
    store, key = place.store, place.key(name)
    try:
        if head or asked is not None:
            return _part(place, name, asked, head)
        value = store.get(key)
    except (FileNotFoundError, NotADirectoryError, StoreError):
        if store.exists(key):
            raise
        value = None
    if value is None:
        # Other programs list what is below a path without a slash; a chunk of a slow store that is
        # missing is not worth another request.
        slow = store.high_latency
        return PlainTextResponse("there is no such key\n", 404) if slow else _page(place, name)
    return Response(bytes(value), headers=_RANGES, media_type=_kind(name))


def _kind(name: str) -> str:
    is_document = name.rpartition("/")[2] in DOCUMENTS
    return "application/json" if is_document else "application/octet-stream"


def _part(place: StorePath, name: str, asked: tuple[str, ...] | None, head: bool) -> Response:
    """Return the response with a range, or with nothing but the size."""
    store, key = place.store, place.key(name)
    size = store.getsize(key)
    if head or asked is None:
        return Response(headers={**_RANGES, "Content-Length": str(size)}, media_type=_kind(name))
    first, last = asked
    start = int(first) if first else max(0, size - int(last or 0))
    end = min(int(last) + 1, size) if first and last else size
    if start >= end:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
    part = store.get(key, RangeByteRequest(start, end))
    if part is None:
        raise FileNotFoundError(key)
    headers = {**_RANGES, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return Response(bytes(part), 206, headers, _kind(name))


def _page(place: StorePath, path: str) -> Response:
    """Return a page with links to what is below a path, as programs that list a server want it.

    At the root it also says what the node is.
    """
    store, here = place.store, place / path
    names = sorted(store.list_dir(here.path))
    if path and not names:
        return PlainTextResponse("there is no such key\n", 404)
    values = each(lambda name: store.exists(here.key(name)), names, slow=store.high_latency)
    links = (name if is_value else f"{name}/" for name, is_value in zip(names, values, strict=True))
    start = f"/{quote(path.rstrip('/'))}/" if path else "/"
    items = "".join(f"<li><a href='{start}{quote(link)}'>{escape(link)}</a>" for link in links)
    title = escape(f"{place}/{path}" if path else str(place))
    about = "" if path else _about(place)
    head = f"<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>"
    return HTMLResponse(f"{head}{about}<ul>{items}</ul>")


def _about(place: StorePath) -> str:
    try:
        node = open(place, mode="r")
    except BaseZarrError as error:
        return f"<p>{escape(str(error))}</p>"
    tree = node.tree()._repr_html_() if isinstance(node, Group) else ""
    return f"{node.info._repr_html_()}{tree}"


_answer_async = async_twin(_answer, private=True)
_page_async = async_twin(_page, private=True)
