"""Serves the page and its files, from memory.

The files are under a path that holds a digest of all of them, so browsers keep them for good. The page itself
is asked for again each time, and answered with 304 while it is the same.
"""

import hashlib
from pathlib import Path
from typing import Final

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.page.card import card_page
from engine.errors import NotReady

FILES: Final = "/page/"
"""What the paths of the page's files begin with."""

FOLDER: Final = Path(__file__).parent / "files"
"""Everything that the page is made of."""

_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_SAFE: Final = {
    # No inline script or style, nothing from another host, and no text of a user as HTML (Trusted Types).
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_KEPT: Final = {"Cache-Control": "public, max-age=31536000, immutable"}


def install(app: FastAPI, with_docs: bool) -> None:
    """Add the page to an application.

    Args:
        with_docs: whether the page links to /docs.
    """
    files = {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir())}
    digest = hashlib.sha256(repr((with_docs, files)).encode()).hexdigest()[:16]
    folder = f".{FILES}{digest}".encode()
    html = files.pop("index.html").replace(b"{files}", folder)
    html = html.replace(b"{docs}", b"" if with_docs else b"hidden")
    card_html = files.pop("card.html").replace(b"{files}", folder).decode()
    checked_each_time = {"ETag": f'"{digest}"', "Cache-Control": "no-cache"}

    async def page(request: Request) -> Response:
        """The page, or 304 if the browser has it."""
        if digest in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=_SAFE | checked_each_time)
        return Response(html, headers=_SAFE | checked_each_time, media_type="text/html")

    async def file(request: Request) -> Response:
        """A file that the page loads."""
        name = request.path_params["name"]
        if request.path_params["digest"] != digest or name not in files:
            raise HTTPException(404)
        return Response(files[name], headers=_SAFE | _KEPT, media_type=_TYPES[Path(name).suffix])

    async def card(request: Request) -> Response:
        """The model card of the bundle that answers."""
        served = await request.app.state.service.describe()
        if "bundle" not in served:
            raise NotReady(f"the server is {served['state']}", retry_after_s=1)
        if not served["card"]:
            raise HTTPException(404, "the bundle has no model card; python -m export.card writes one")
        headers = _SAFE | {"Cache-Control": "no-cache"}
        return Response(card_page(served["card"], card_html), headers=headers, media_type="text/html")

    app.add_route("/", page, include_in_schema=False)
    app.add_route("/card", card, include_in_schema=False)
    app.add_route(f"{FILES}{{digest}}/{{name}}", file, include_in_schema=False)
