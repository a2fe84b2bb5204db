"""The application: routes, and nothing that the library does not do."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import orjson
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response
from fastapi.security import HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from jiesu_nlp.answer import Classification, Rejected
from jiesu_nlp.history import History, Ticket
from jiesu_nlp.predict import Classifier
from jiesu_nlp.serve.engine import Engine, answer_all, log
from jiesu_nlp.serve.feedback import LABELS, FeedbackStore
from jiesu_nlp.serve.files import FileJobs
from jiesu_nlp.serve.guard import Guard, add_problems, problem
from jiesu_nlp.serve.schemas import (
    BatchIn,
    FeedbackIn,
    FileJob,
    HistoryIn,
    Problem,
    Status,
    Stored,
    TicketIn,
)
from jiesu_nlp.serve.settings import Settings
from jiesu_nlp.text import check_text

_PAGE = Path(__file__).parent / "page"
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": text}
    for code, text in (
        (401, "no or a wrong key"),
        (413, "the body is too large"),
        (422, "the request cannot be understood, or a text cannot be classified"),
        (429, "busy; come again after Retry-After"),
        (504, "it took too long"),
    )
}
_bearer = HTTPBearer(auto_error=False, description="one of JIESU_KEYS, where any is set; `Guard` checks it")


def create_app(settings: Settings | None = None) -> FastAPI:
    """The application for these settings, those of the environment by default."""
    chosen = settings or Settings()
    engine = Engine(chosen)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(None, engine.load)
            app.state.feedback = await loop.run_in_executor(None, FeedbackStore, chosen.feedback)
            app.state.history = await loop.run_in_executor(None, History, chosen.history) if chosen.history else None
        except Exception as error:
            log.error("not started", extra={"fields": {"error": type(error).__name__, "detail": str(error)}})
            raise
        app.state.files = FileJobs(chosen)
        watching = [asyncio.create_task(engine.watch()), asyncio.create_task(app.state.files.sweep())]
        yield
        for task in watching:
            task.cancel()
        await loop.run_in_executor(None, engine.close)
        await loop.run_in_executor(None, app.state.files.close)
        app.state.feedback.close()
        if app.state.history:
            app.state.history.close()

    app = FastAPI(
        title="jiesu_nlp",
        version=version("jiesu_nlp"),
        summary="读市民诉求:类别、部门、派单方式与未诉先办",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.engine, app.state.settings = engine, chosen
    add_problems(app)
    for method, path, route, model, summary in _ROUTES:
        about: dict[str, Any] = {"summary": summary, "dependencies": [Depends(_bearer)], "responses": _PROBLEMS}
        app.add_api_route(path, route, methods=[method], response_model=model, **about)
    app.add_api_route("/healthz", _healthy, methods=["GET"], response_model=Status, summary="进程在")
    app.add_api_route("/readyz", _ready, methods=["GET"], response_model=Status, summary="模型已加载")
    app.add_api_route("/metrics", _metrics, methods=["GET"], summary="Prometheus 指标")
    for path, name, kind in _ASSETS:
        app.add_api_route(path, _asset(name, kind), methods=["GET"], include_in_schema=False)
    app.add_middleware(Guard, settings=chosen, engine=engine, direct={"/v1/classify": _classify_directly})
    return app


async def _classify(body: TicketIn, request: Request) -> Response:
    state = request.app.state
    _check_length(state.settings, body.text)
    if state.history is None:
        return _json(await state.engine.classify(body))

    def work(classifier: Classifier) -> Classification:
        return classifier.classify(body.text, top=body.top, history=state.history, at=body.at, place=body.place)

    return _json(await state.engine.run(work))


async def _classify_directly(request: Request) -> Response:
    """`_classify`, its body read as FastAPI reads one."""
    try:
        content = await request.body()
        sent = json.loads(content) if content else None
    except json.JSONDecodeError as error:
        raise RequestValidationError([{"type": "json_invalid", "loc": ("body", error.pos)}]) from None
    except HTTPException:
        raise
    except Exception:  # not UTF-8, nested too deeply, or the client left
        raise problem(400, "Error", "There was an error parsing the body") from None
    if not content:
        raise RequestValidationError([{"type": "missing", "loc": ("body",)}])
    try:
        body = TicketIn.model_validate(sent, from_attributes=True)
    except ValidationError as error:
        wrong = error.errors(include_url=False, include_context=False, include_input=False)
        raise RequestValidationError([{**one, "loc": ("body", *one["loc"])} for one in wrong]) from None
    return await _classify(body, request)


async def _batch(body: BatchIn, request: Request) -> Response:
    """A list of answers; a text that cannot be classified has row, error and message in its place."""
    state = request.app.state
    if len(body.items) > state.settings.max_batch:
        raise problem(413, "Batch too large", f"{len(body.items)} items; send at most {state.settings.max_batch}")
    for item in body.items:
        _check_length(state.settings, item.text)

    return _json(await state.engine.run(lambda classifier: answer_all(classifier, body.items, state.history)))


def _json(answer: Any) -> Response:
    """Dataclasses as JSON, written by orjson: what `to_dict` and `json` need for one takes longer than to classify."""
    return Response(orjson.dumps(answer), media_type="application/json")


def _check_length(settings: Settings, text: str) -> None:
    if len(text) > settings.max_text:
        raise problem(413, "Text too long", f"a text has {len(text)} characters; send at most {settings.max_text}")


async def _feedback(body: FeedbackIn, request: Request) -> Stored:
    """Stored when this answers; `jiesu feedback` exports it for `jiesu train`."""
    state = request.app.state
    _check_length(state.settings, check_text(body.text))
    given = {head: getattr(body, head) for head in LABELS if getattr(body, head)}
    if not given:
        raise problem(422, "No label", "give at least one of category, department, intent, recurrence")
    taxonomy = state.engine.classifier.taxonomy
    labels = {head: taxonomy.resolve(head, value) for head, value in given.items()}
    await state.engine.run(lambda _: state.feedback.add(body.id, body.text, labels))
    return Stored(stored=1)


async def _append(body: HistoryIn, request: Request) -> Stored:
    state = request.app.state
    if state.history is None:
        raise problem(409, "No history", "the server was started without JIESU_HISTORY")
    if len(body.tickets) > state.settings.max_batch:
        raise problem(413, "Batch too large", f"{len(body.tickets)} tickets; send at most {state.settings.max_batch}")
    for ticket in body.tickets:
        _check_length(state.settings, check_text(ticket.text))
    taxonomy = state.engine.classifier.taxonomy
    tickets = []
    for ticket in body.tickets:
        given = ticket.model_dump()
        known = {head: taxonomy.resolve(head, given[head]) for head in ("category", "department") if given[head]}
        tickets.append(Ticket(**given | known))
    return Stored(stored=await state.engine.run(lambda _: state.history.append(tickets)))


async def _taxonomy(request: Request) -> JSONResponse:
    """Names and codes of every head, as the answers have them."""
    taxonomy = request.app.state.engine.classifier.taxonomy
    heads = {
        head: [{"code": label.code, "name": label.name, "parent": label.parent} for label in labels]
        for head, labels in taxonomy.heads.items()
    }
    return JSONResponse({"name": taxonomy.name, "version": taxonomy.version, "hash": taxonomy.hash, "heads": heads})


async def _upload(request: Request, name: str) -> FileJob:
    """Send a csv or xlsx table as the body, its file name as `name`."""
    job: FileJob = await request.app.state.files.start(name, request.stream())
    return job


async def _job(request: Request, job: str) -> FileJob:
    found: FileJob = request.app.state.files.status(job)
    return found


async def _result(request: Request, job: str) -> FileResponse:
    path, name = request.app.state.files.result(job)
    return FileResponse(path, filename=name, media_type="application/octet-stream")


async def _rejects(request: Request, job: str) -> FileResponse:
    """The rows that could not be labelled, with the reason, as csv."""
    path, name = request.app.state.files.result(job, rejects=True)
    return FileResponse(path, filename=name, media_type="text/csv")


async def _healthy() -> Status:
    return Status(status="ok")


async def _ready(request: Request) -> Status:
    return Status(status="ok", model=request.app.state.engine.name)  # the model is loaded before anything is taken in


async def _metrics() -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


_ROUTES: tuple[tuple[str, str, Any, Any, str], ...] = (
    ("POST", "/v1/classify", _classify, Classification, "一件诉求"),
    ("POST", "/v1/classify/batch", _batch, list[Classification | Rejected], "一批诉求,按序回答"),
    ("POST", "/v1/feedback", _feedback, Stored, "人工更正"),
    ("POST", "/v1/history", _append, Stored, "往期工单入库"),
    ("GET", "/v1/taxonomy", _taxonomy, None, "标签体系"),
    ("POST", "/v1/files", _upload, FileJob, "整表贴标签"),
    ("GET", "/v1/files/{job}", _job, FileJob, "进度"),
    ("GET", "/v1/files/{job}/result", _result, None, "结果文件"),
    ("GET", "/v1/files/{job}/rejects", _rejects, None, "不能识别的行"),
)
_ASSETS = (
    ("/", "index.html", "text/html; charset=utf-8"),
    ("/page.css", "page.css", "text/css; charset=utf-8"),
    ("/page.js", "page.js", "text/javascript; charset=utf-8"),
)


def _asset(name: str, kind: str) -> Any:
    content = (_PAGE / name).read_bytes()

    async def serve() -> Response:
        return Response(content, media_type=kind)

    return serve
