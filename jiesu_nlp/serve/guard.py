"""What surrounds every request: limits, an id, one log line, metrics, and errors as problem+json."""

import asyncio
import hmac
import json
import logging
import random
import re
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from prometheus_client import Counter, Gauge, Histogram
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jiesu_nlp.errors import HistoryError, InvalidTextError, JiesuError
from jiesu_nlp.serve.engine import BusyError, Engine, log
from jiesu_nlp.serve.settings import Settings

_REQUESTS = Counter("jiesu_requests_total", "Requests by route and status", ["route", "status"])
_SECONDS = Histogram("jiesu_request_seconds", "Seconds a request took, by route", ["route"])
_ACTIVE = Gauge("jiesu_active_requests", "Requests that work or wait")
_RELOADS = Gauge("jiesu_model_reloads", "How often the model was loaded anew")

_HEADERS = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))
_OF_PAGES = (
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
     b"img-src 'self' data:; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"),
)  # fmt: skip


Direct = Callable[[Request], Awaitable[Response]]


class Problematic(HTTPException):
    """An error with a title, answered as problem+json."""

    def __init__(self, status: int, title: str, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status, detail, headers)
        self.title = title


def problem(status: int, title: str, detail: str) -> Problematic:
    """An error to raise in a route; neither `title` nor `detail` may hold a ticket's text."""
    return Problematic(status, title, detail)


_CLOSE = {"connection": "close"}
"""For an answer to a request whose body nobody reads."""
_PORT = re.compile(r":\d+$")
_LOOPBACK = ("localhost", "127.0.0.1", "::1", "[::1]")


class _Started:
    """The status of an answer, 0 until it begins."""

    status = 0


def _counted(headers: Mapping[bytes, bytes], receive: Receive, limit: int, timeout: float) -> Receive:
    """Receive a body, and stop where it grows beyond the limit, says that it will, stands still or trickles."""
    declared = headers.get(b"content-length", b"")
    read = int(declared) if declared.isdigit() and int(declared) > limit else 0
    whole = False
    begin = asyncio.get_running_loop().time()

    async def counted() -> Message:
        nonlocal read, whole
        try:
            # When the body is there, the next message is that the client left: nobody waits for that in vain.
            async with asyncio.timeout_at(None if whole else begin + timeout + read / _SLOWEST):
                message: Message = {"type": "http.request"} if read > limit else await receive()
        except TimeoutError:
            raise Problematic(408, "Body too slow", "send the body without pauses", _CLOSE) from None
        whole = not message.get("more_body", False)
        read += len(message.get("body", b""))
        if read > limit:
            detail = f"the body may have at most {limit} bytes"
            raise Problematic(413, "Body too large", detail, _CLOSE)
        return message

    return counted


_SLOWEST = 65_536
"""Bytes a second that a body must bring on the whole, once the time for a request is over."""


class Guard:
    """Pure ASGI, so that a body that is too large is refused while it comes in."""

    def __init__(self, app: ASGIApp, settings: Settings, engine: Engine, direct: Mapping[str, Direct]) -> None:
        """Guard an application.

        Args:
            direct: by path, what answers a POST of JSON itself. The application has the same routes, described and for
                other bodies; its way to them takes five times as long as what they need.
        """
        self._app, self._settings, self._direct = app, settings, direct
        self._keys = [key.get_secret_value().encode() for key in settings.keys]
        _ACTIVE.set_function(lambda: engine.at_work)
        _RELOADS.set_function(lambda: engine.reloads)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body counted and its answer marked."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, request_id, answer = time.perf_counter(), f"{random.getrandbits(64):016x}", _Started()
        headers, route = dict(scope["headers"]), "other"

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                answer.status = message["status"]
                own = _HEADERS if scope["path"].startswith("/v1/") else _HEADERS + _OF_PAGES
                message["headers"] = [*message.get("headers", []), (b"x-request-id", request_id.encode()), *own]
            await send(message)

        limit = self._settings.max_file if scope["path"] == "/v1/files" else self._settings.max_body
        counted = _counted(headers, receive, limit, self._settings.timeout)
        direct = self._direct.get(scope["path"]) if scope["method"] == "POST" else None
        try:
            if refused := self._refuse(scope, headers):
                await refused(scope, receive, marked)
            elif direct and headers.get(b"content-type") == b"application/json":
                route = scope["path"]
                await (await _answered(direct, Request(scope, counted)))(scope, counted, marked)
            else:
                await self._app(scope, counted, marked)
        except Exception as error:
            # Its message and the lines of its traceback may hold a ticket's text; only its kind is told.
            log.error("failed", extra={"fields": {"id": request_id, "error": type(error).__name__}})
            if not answer.status:
                wrong = _answer(500, "Internal error", f"see the log for request {request_id}")
                await wrong(scope, receive, marked)
        finally:
            route = getattr(scope.get("route"), "path", route)
            _record(scope["method"], route, answer.status or 500, time.perf_counter() - begin, request_id)

    def _refuse(self, scope: Scope, headers: Mapping[bytes, bytes]) -> JSONResponse | None:
        """An answer for whom nothing is read: no key, or a page of another host that a browser has open."""
        origin, host = headers.get(b"origin", b""), headers.get(b"host", b"")
        if origin and (origin.split(b"//")[-1] != host or not self._is_own(host)):
            return _answer(403, "Foreign page", "pages of other hosts may not use this server", _CLOSE)
        scheme, _, token = headers.get(b"authorization", b"").partition(b" ")
        # Every key is compared, each in a time that does not depend on how much of it is right.
        known = any([hmac.compare_digest(token.strip(), key) for key in self._keys]) and scheme.lower() == b"bearer"
        if self._keys and scope["path"].startswith("/v1/") and not known:
            detail = "give one of the server's keys as a bearer token"
            return _answer(401, "Unauthorized", detail, {"WWW-Authenticate": "Bearer"} | _CLOSE)
        return None

    def _is_own(self, host: bytes) -> bool:
        """Whether a page of this host may use a server that asks for no key.

        Any name can be made to point to the loopback, and a foreign page then has the server's own host.
        """
        name = _PORT.sub("", host.decode("latin-1"))
        return bool(self._keys) or self._settings.host not in _LOOPBACK or name in (*_LOOPBACK, *self._settings.names)


async def _answered(route: Direct, request: Request) -> Response:
    """What a route answers, or the application's answer to the error that it raises."""
    try:
        return await route(request)
    except Exception as error:
        handlers = request.app.exception_handlers
        kind = next((kind for kind in type(error).__mro__ if kind in handlers), None)
        if kind is None:
            raise
        told: Response = await handlers[kind](request, error)
        return told


@cache
def _meters(route: str, status: int) -> tuple[Counter, Histogram]:
    return _REQUESTS.labels(route, status), _SECONDS.labels(route)


def _record(method: str, route: str, status: int, seconds: float, request_id: str) -> None:
    requests, taken = _meters(route, status)
    requests.inc()
    taken.observe(seconds)
    fields = {"id": request_id, "method": method, "route": route, "status": status, "ms": round(1000 * seconds, 1)}
    log.info("request", extra={"fields": fields})


def _answer(
    status: int, title: str, detail: str, headers: dict[str, str] | None = None, errors: list[Any] | None = None
) -> JSONResponse:
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if errors is not None:
        body["errors"] = errors
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def add_problems(app: FastAPI) -> None:
    """Answer every error as problem+json that never echoes the request."""

    def on(kind: type[Exception], make: Callable[[Any], JSONResponse]) -> None:
        async def handle(_: Request, error: Exception) -> JSONResponse:
            return make(error)

        app.add_exception_handler(kind, handle)

    def invalid(error: RequestValidationError) -> JSONResponse:
        # `input` and `ctx` of an error hold what was sent.
        told = [{"where": [str(part) for part in e["loc"] if part in _PLACES or isinstance(part, int)],
                 "what": e["type"]} for e in error.errors()]  # fmt: skip
        return _answer(422, "Invalid request", "the body is not what the schema asks for", errors=told[:20])

    on(RequestValidationError, invalid)
    on(HTTPException, lambda e: _answer(e.status_code, getattr(e, "title", "Error"), str(e.detail), e.headers))
    on(InvalidTextError, lambda e: _answer(422, type(e).__name__, str(e)))
    on(HistoryError, lambda e: _answer(503, type(e).__name__, str(e)))
    on(JiesuError, lambda e: _answer(422, type(e).__name__, "a label is none of the taxonomy's; see GET /v1/taxonomy"))
    on(BusyError, lambda e: _answer(429, "Busy", "come again later", {"Retry-After": str(e.retry_after)}))
    on(TimeoutError, lambda _: _answer(504, "Timeout", "it took too long; send less at once"))


_PLACES = {
    "body", "query", "path", "text", "at", "place", "top", "items", "id", "category", "department", "intent",
    "recurrence", "tickets", "time", "outcome", "answered", "name", "job",
}  # fmt: skip


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, event and its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {"time": f"{stamp}.{int(record.msecs):03}Z", "level": record.levelname.lower(), "event": record.msg}
        if not record.name.startswith("jiesu_nlp"):  # the server's own words about starting and stopping
            message = record.getMessage()
            line["event"] = "server error" if "Traceback" in message or record.exc_info else message[:300]
        return json.dumps(line | getattr(record, "fields", {}), ensure_ascii=False)  # orjson refuses some paths


def set_up_logging() -> None:
    """JSON lines on standard error, for this package and for uvicorn."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("jiesu_nlp", "uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
