"""Stands before the page's server: all that a request says is looked at before gradio hears of it.

Whoever reaches the port can send what no browser would, and a browser sends for every page of the
web. So only the addresses that this page uses are served, to who names this server; a request to
predict is built anew from the few things it may say; and there is a bound to all that is kept.
"""

import json
import re
from collections.abc import Container, Sequence
from contextlib import ExitStack
from typing import Any

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mtlcli.errors import InputError
from mtlcli.page.hosts import Hosts
from mtlcli.page.uploads import ENVELOPE, Refused, Uploads

API = "/gradio_api"
FILE = f"{API}/file="
HEARTBEAT = f"{API}/heartbeat/"
UPLOAD, JOIN, DATA = f"{API}/upload", f"{API}/queue/join", f"{API}/queue/data"
PLAIN = ("/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt",
         f"{API}/info", f"{API}/app_id", f"{API}/startup-events",
         f"{API}/upload_progress")  # fmt: skip
FOLDERS = ("/assets/", "/static/", "/svelte/")
SHOW, TURN, PREDICT, NETWORK = range(4)
"""The page's functions by number: of a picture and a title, of a title, of a picture, of nothing.
What follows them brings the rooms to try, of nothing, too."""
SESSION = re.compile(r"[A-Za-z0-9_-]{1,64}")
FORGED = (ValueError, LookupError, TypeError, AttributeError, RecursionError, InputError)
"""What a request that is not the page's runs into."""
MOST_OPEN = 256  # requests at a time; an open page holds two
HEADERS = {
    # gradio's own page is made of scripts and styles within it, and of text it evaluates
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'self'",
            "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """An ASGI application before another.

    Args:
        app: the page's server.
        hosts: the names it goes by.
        uploads: the folder whose files it may read.
        titles: of the maps that can be chosen.
        rooms: how many there are to try.
        sessions: those that wait for an answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        hosts: Hosts,
        uploads: Uploads,
        titles: Sequence[str],
        rooms: int,
        sessions: Container[str],
    ) -> None:
        self.app, self.hosts, self.uploads = app, hosts, uploads
        self.titles, self.sessions = tuple(titles), sessions
        self.functions = range(NETWORK + 1 + rooms)
        self.open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on what may pass; answer all else."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})  # the page uses none
        else:
            self.open += 1
            try:
                await self.answer(scope, receive, with_headers(send))
            finally:
                self.open -= 1

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        with ExitStack() as held:
            try:
                receive = await self.admitted(scope, receive, held)
            except Refused as refused:
                answer = PlainTextResponse(str(refused), status_code=refused.status)
                await answer(scope, receive, send)
                return
            await self.app(scope, receive, send)

    async def admitted(self, scope: Scope, receive: Receive, held: ExitStack) -> Receive:
        """What the page receives of a request.

        Raises:
            Refused: nothing. (`held` keeps the room that was found for an upload.)
        """
        headers, path = Headers(scope=scope), scope["path"]
        if not self.hosts.serves(headers.get("host", "")):
            raise Refused(421, "This page is not served under this name.")
        if self.hosts.is_foreign(headers) and (scope["method"] != "GET" or path != "/"):
            raise Refused(403, "This page takes nothing from other pages.")
        if self.open > MOST_OPEN:
            raise Refused(503, "Too many visitors: come back in some minutes.")
        if scope["method"] in ("GET", "HEAD"):
            self.require_address(path, QueryParams(scope["query_string"]))
            return receive
        if scope["method"] != "POST" or path not in (UPLOAD, JOIN):
            raise Refused(404, "There is nothing here.")
        size = length(headers)
        if path == UPLOAD:
            held.enter_context(self.uploads.room_for(size))
            return receive
        if size > ENVELOPE:
            raise Refused(413, "This is too long.")
        with self.uploads.room_for(0):
            return replay(self.rebuild_request(await body(receive)), receive)

    def require_address(self, path: str, query: QueryParams) -> None:
        """Refuse what the page does not fetch.

        Raises:
            Refused: as if there was nothing.
        """
        known = path in PLAIN or path.startswith(FOLDERS)
        if path.startswith(FILE):
            try:
                known = bool(self.uploads.own(path.removeprefix(FILE)))
            except InputError:
                known = False
        elif path.startswith(HEARTBEAT):
            known = bool(SESSION.fullmatch(path.removeprefix(HEARTBEAT)))
        elif path == DATA:
            known = query.get("session_hash", "") in self.sessions
        if not known:
            raise Refused(404, "There is nothing here.")

    def rebuild_request(self, content: bytes) -> bytes:
        """A request to one of the page's functions, built anew: only what it may say.

        Raises:
            Refused: it says something else.
        """
        try:
            said = json.loads(content)
            number, session = said["fn_index"], said["session_hash"]
            trigger = said.get("trigger_id")  # programs have none
            if type(number) is not int or number not in self.functions:
                raise ValueError("not of this page")
            if type(session) is not str or not SESSION.fullmatch(session):
                raise ValueError("not of a browser")
            if trigger is not None and not (type(trigger) is int and 0 <= trigger < 2**31):
                raise ValueError("not of a browser")
            given = self.arguments(number, said["data"])
        except FORGED as error:
            raise Refused(400, "This is nothing that the page asks.") from error
        request = {"data": given, "fn_index": number, "session_hash": session}
        return json.dumps(request | {"trigger_id": trigger}).encode()

    def arguments(self, number: int, given: Any) -> list[Any]:
        """What one of the page's functions is given, of what was sent.

        Raises:
            ValueError, KeyError, TypeError, InputError: it takes something else.
        """
        if number == PREDICT:
            (picture,) = given
            return [self.file_of(picture)]
        if number not in (SHOW, TURN):
            if given:
                raise ValueError("of nothing")
            return []
        picture, title = given
        if title not in self.titles:
            raise ValueError("not of this page")
        file = None if number == TURN or picture is None else self.file_of(picture)
        return [file, title]

    def file_of(self, picture: dict[str, Any]) -> dict[str, Any]:
        """What gradio is told of an upload: its real path, and nothing else that was said of it."""
        return {"path": str(self.uploads.own(picture["path"])),
                "meta": {"_type": "gradio.FileData"}}  # fmt: skip


def length(headers: Headers) -> int:
    """Bytes of a request's body, which the server holds it to.

    Raises:
        Refused: they are not told beforehand.
    """
    told = headers.get("content-length", "")
    if not (told.isascii() and told.isdigit() and len(told) < 20):
        raise Refused(411, "Say how long this is.")
    return int(told)


async def body(receive: Receive) -> bytes:
    """All of a request's body.

    Raises:
        Refused: it broke off.
    """
    parts, more = [], True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused(400, "This broke off.")
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def replay(content: bytes, receive: Receive) -> Receive:
    """Receives this as the body, then what else comes."""
    pending: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

    async def next_message() -> Message:
        return pending.pop() if pending else await receive()

    return next_message


def with_headers(send: Send) -> Send:
    """Adds `HEADERS` to the answer."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return sent
