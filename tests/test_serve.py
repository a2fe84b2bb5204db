import asyncio
import dataclasses
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest
import xlsxwriter
from conftest import SAMPLES
from fastapi.testclient import TestClient

from jiesu_nlp import classify
from jiesu_nlp.errors import NoChineseError, TableError
from jiesu_nlp.models.store import model_folder
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.serve.app import create_app
from jiesu_nlp.serve.feedback import FeedbackStore
from jiesu_nlp.serve.settings import Settings
from jiesu_nlp.serve.sheets import to_csv
from jiesu_nlp.taxonomy import Taxonomy
from jiesu_nlp.train import train

TEXT = "望京西园四区自来水管老化渗水,反映多次没人管"
SECRET = "独一无二的秘密诉求文字"


def _settings(folder, **more):
    return Settings(_env_file=None, feedback=folder / "feedback.db", files=folder / "files", **more)


@pytest.fixture
def client(tmp_path):
    with TestClient(create_app(_settings(tmp_path, history=str(tmp_path / "h.db")))) as client:
        yield client


def test_the_answer_is_to_dict_and_nothing_else(client, tmp_path):
    with TestClient(create_app(_settings(tmp_path))) as plain:
        assert plain.post("/v1/classify", json={"text": TEXT}).json() == classify(TEXT).to_dict()
        batch = plain.post("/v1/classify/batch", json={"items": [{"text": TEXT}, {"text": ""}]}).json()
    assert batch[0] == classify(TEXT).to_dict() and batch[1]["error"] == "EmptyTextError"
    assert client.get("/healthz").json()["status"] == "ok"
    assert client.get("/readyz").json()["model"] == "default 1.0"
    heads = client.get("/v1/taxonomy").json()["heads"]
    assert len(heads["department"]) == 33


def test_history_is_appended_and_heard(client):
    answered = {"outcome": "已解决", "answered": "2026-01-03T08:00:00"}
    ticket = {"id": "a", "text": TEXT, "time": "2026-01-01T08:00:00"} | answered
    assert client.post("/v1/history", json={"tickets": [ticket]}).json() == {"stored": 1}
    assert client.post("/v1/history", json={"tickets": [ticket]}).json() == {"stored": 0}
    answer = client.post("/v1/classify", json={"text": TEXT, "at": "2026-02-01T08:00:00"}).json()
    assert answer["recurrence"]["count"] == 1 and answer["recurrence"]["came_back"]


def test_feedback_becomes_training_data(client, tmp_path):
    names = {"water": "市水务局", "tax": "tax"}
    for name, told in names.items():
        for line in (SAMPLES / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()[:12]:
            row = json.loads(line)
            body = {"id": row["id"], "text": row["body"], "department": told}
            assert client.post("/v1/feedback", json=body).json() == {"stored": 1}
    assert client.post("/v1/feedback", json=body).json() == {"stored": 1}
    assert client.post("/v1/feedback", json={"id": "0", "text": "x"}).status_code == 422
    wrong = client.post("/v1/feedback", json={"id": "9", "text": SECRET, "department": SECRET})
    assert wrong.status_code == 422 and SECRET not in wrong.text
    out = tmp_path / "f.jsonl"
    assert FeedbackStore(tmp_path / "feedback.db", create=False).export(out) == 24
    assert json.loads(out.read_text(encoding="utf-8").splitlines()[0])["department"] == "water"
    taxonomy = Taxonomy.load()
    heads = {"department": tuple(label for label in taxonomy.heads["department"] if label.code in names)}
    trained = train([out], tmp_path / "m", taxonomy=dataclasses.replace(taxonomy, heads=heads))
    assert trained.rows == 24 and set(trained.metrics) == {"department"}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/v1/classify", {"text": ""}, 422),
        ("POST", "/v1/classify", {"text": "no chinese"}, 422),
        ("POST", "/v1/classify", {"text": SECRET, "extra": SECRET}, 422),
        ("POST", "/v1/classify", {"text": SECRET, "at": SECRET}, 422),
        ("POST", "/v1/classify", {"text": SECRET * 3000}, 413),
        ("POST", "/v1/classify/batch", {"items": []}, 422),
        ("POST", "/v1/classify/batch", {"items": [{"text": SECRET}] * 257}, 413),
        ("POST", "/v1/history", {"tickets": [{"id": "1", "text": SECRET, "time": SECRET}]}, 422),
        ("GET", "/v1/files/../../etc/passwd", None, 404),
        ("GET", "/v1/files/" + "0" * 32, None, 404),
        ("POST", "/v1/files?name=x.exe", {}, 422),
        ("GET", "/nothing", None, 404),
        ("PUT", "/v1/classify", {}, 405),
    ],
)
def test_errors_are_problems_that_never_echo(client, method, path, body, status):
    answer = client.request(method, path, json=body)
    assert answer.status_code == status and answer.json()["status"] == status
    assert answer.headers["content-type"] == "application/problem+json" and answer.headers["x-request-id"]
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "body",
    [json.dumps({"text": TEXT, "top": 2}), json.dumps({"text": TEXT, "at": "2026-01-31", "place": "望京西园"}),
     "", "null", "{", b"\xff", "[" * 100_000, "1" * 5000, "[1]", "{}", json.dumps({"text": 1, "top": "x", SECRET: 1}),
     json.dumps({"text": SECRET, "at": SECRET}), json.dumps({"text": ""}), json.dumps({"text": SECRET * 3000})],
)  # fmt: skip
def test_the_short_way_answers_as_the_long_one(client, body):
    short, long = (
        client.post("/v1/classify", content=body, headers={"Content-Type": kind})
        for kind in ("application/json", "application/json; charset=utf-8")
    )
    assert short.status_code == long.status_code
    assert short.json() == long.json()
    assert {name for name, _ in short.headers.items()} == {name for name, _ in long.headers.items()}


def test_a_body_that_is_too_large_is_refused_unread(tmp_path):
    with TestClient(create_app(_settings(tmp_path, max_body=1000))) as client:
        assert client.post("/v1/classify", content=b"x" * 2000).status_code == 413
        for kind in ("application/json", "text/plain"):
            body, headers = (b"x" * 600 for _ in range(3)), {"Content-Type": kind}
            assert client.post("/v1/classify", content=body, headers=headers).status_code == 413
        assert client.post("/v1/classify", json={"text": TEXT}).status_code == 200


def test_keys_are_asked_for_where_there_are_any(tmp_path):
    with TestClient(create_app(_settings(tmp_path, keys=["first-key-0123456", "second-key-012345"]))) as client:
        assert client.post("/v1/classify", json={"text": TEXT}).status_code == 401
        for key, status in (("second-key-012345", 200), ("third-key-0123456", 401), ("", 401)):
            headers = {"Authorization": f"Bearer {key}"}
            assert client.post("/v1/classify", json={"text": TEXT}, headers=headers).status_code == status
        assert client.get("/healthz").status_code == client.get("/").status_code == 200
        assert client.post("/v1/classify", content=b"{").status_code == 401  # before the body is looked at
    for weak in ("", "密钥密钥密钥密钥密钥密钥密钥密钥", "short"):
        with pytest.raises(ValueError, match="at least 16"):
            _settings(tmp_path, keys=[weak])


def test_pages_of_other_hosts_are_refused(client, tmp_path):
    foreign = ("http://evil.example:8000", "evil.example:8000")  # whose name points to this machine
    for origin, host, status in (
        ("http://localhost:8000", "localhost:8000", 200),
        ("http://127.0.0.1:9000", "127.0.0.1:9000", 200),  # through a tunnel
        ("https://evil.example", "localhost:8000", 403),
        (*foreign, 403),
    ):
        answer = client.post("/v1/classify", json={"text": TEXT}, headers={"Origin": origin, "Host": host})
        assert answer.status_code == status
    for settings in ({"keys": ["a-key-of-16-chars"]}, {"names": ["evil.example"]}):
        with TestClient(create_app(_settings(tmp_path, **settings))) as own:
            headers = {"Origin": foreign[0], "Host": foreign[1], "Authorization": "Bearer a-key-of-16-chars"}
            assert own.post("/v1/classify", json={"text": TEXT}, headers=headers).status_code == 200


def test_no_path_leads_out_of_the_folder_of_files(client, tmp_path):
    (tmp_path / "job.json").write_text('{"id": "x", "state": "done"}', encoding="utf-8")
    for path in ("%2e%2e", "..%2f" + "0" * 32, "%2e%2e/result"):
        assert client.get(f"/v1/files/{path}").status_code == 404


def test_a_history_takes_names_as_tables_have_them(client):
    ticket = {"id": "1", "text": TEXT, "time": "2026-01-02", "category": "便利性", "department": "市水务局"}
    assert client.post("/v1/history", json={"tickets": [ticket]}).json() == {"stored": 1}
    (row,) = client.app.state.history.tickets()
    assert (row.category, row.department) == ("convenience", "water")
    assert client.post("/v1/history", json={"tickets": [ticket | {"category": "胡说"}]}).status_code == 422


def test_odd_times_and_half_characters_are_422_and_top_is_each_items_own(client):
    for body in ({"text": TEXT, "at": "0001-01-01T00:00:00+14:00"}, {"text": "反映多次\ud800没人管"}):
        answer = client.post("/v1/classify", content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert answer.status_code == 422
    items = [{"text": TEXT, "top": 1}, {"text": TEXT, "top": 7}]
    answers = client.post("/v1/classify/batch", json={"items": items}).json()
    assert [len(answer["categories"]) for answer in answers] == [1, 7]
    assert client.post("/v1/feedback", json={"id": "1", "text": " ", "department": "water"}).status_code == 422


def test_more_than_the_bound_get_429_and_when_to_come_again(tmp_path):
    with TestClient(create_app(_settings(tmp_path, concurrency=1, threads=1))) as client:
        entered, leave = threading.Event(), threading.Event()
        engine = client.app.state.engine

        def hold(_):
            entered.set()
            leave.wait(10)

        held = client.portal.start_task_soon(engine.run, hold)
        assert entered.wait(5)
        busy = client.post("/v1/classify", json={"text": TEXT})
        assert busy.status_code == 429 and int(busy.headers["retry-after"]) >= 1
        assert client.get("/healthz").status_code == 200  # the event loop is free
        leave.set()
        held.result(5)
        assert client.post("/v1/classify", json={"text": TEXT}).status_code == 200


def test_tickets_that_come_in_together_are_read_together(tmp_path, monkeypatch):
    from jiesu_nlp.serve import engine as module
    from jiesu_nlp.serve.schemas import TicketIn

    read = []
    answers = module._answers
    monkeypatch.setattr(module, "_answers", lambda classifier, asked: read.append(asked) or answers(classifier, asked))
    with TestClient(create_app(_settings(tmp_path))) as client:
        engine = client.app.state.engine

        async def ask():
            asked = [TicketIn(text=TEXT + str(i), top=1 + i) for i in range(5)]
            waiting = [asyncio.ensure_future(engine.classify(one)) for one in asked]
            await asyncio.sleep(0)
            waiting[2].cancel()
            bad = asyncio.ensure_future(engine.classify(TicketIn(text="12345")))
            return await asyncio.gather(*waiting, bad, return_exceptions=True)

        *found, refused = client.portal.call(ask)
    assert [len(asked) for asked in read] == [5]
    assert isinstance(found[2], asyncio.CancelledError) and isinstance(refused, NoChineseError)
    for i in (0, 1, 3, 4):
        assert found[i] == classify(TEXT + str(i), top=1 + i)


def test_many_characters_are_not_read_in_one_go(tmp_path, monkeypatch):
    from jiesu_nlp.serve import engine as module
    from jiesu_nlp.serve.schemas import TicketIn

    read = []
    answers = module._answers
    monkeypatch.setattr(
        module, "_answers", lambda classifier, asked: read.append(len(asked)) or answers(classifier, asked)
    )
    with TestClient(create_app(_settings(tmp_path))) as client:
        text = TEXT * 150  # 3,300 characters: two fit

        async def ask():
            asked = [client.app.state.engine.classify(TicketIn(text=text)) for _ in range(5)]
            return await asyncio.gather(*asked)

        assert client.portal.call(ask) == [classify(text)] * 5
    assert max(read) <= 2 and sum(read) == 5


def test_what_takes_too_long_is_504(tmp_path, monkeypatch):
    with TestClient(create_app(_settings(tmp_path, timeout=0.1))) as client:
        monkeypatch.setattr(client.app.state.feedback, "add", lambda *_: time.sleep(0.5))
        body = {"id": "1", "text": TEXT, "department": "water"}
        assert client.post("/v1/feedback", json=body).status_code == 504
        time.sleep(0.6)
        assert client.app.state.engine.active == 0


def test_a_changed_model_is_loaded_without_a_dropped_request(tmp_path):
    folder = tmp_path / "model"
    model = TfidfModel.load(str(model_folder()))

    def save(name):
        dataclasses.replace(model, meta=dict(model.meta) | {"name": name}).save(str(folder))

    save("one")
    with TestClient(create_app(_settings(tmp_path, model=folder, reload_every=0.05))) as client:
        seen = {client.post("/v1/classify", json={"text": TEXT}).json()["model"]["name"]}
        save("two")
        end = time.monotonic() + 20
        while "two" not in seen and time.monotonic() < end:
            answer = client.post("/v1/classify", json={"text": TEXT})
            assert answer.status_code == 200
            seen.add(answer.json()["model"]["name"])
        assert seen == {"one", "two"}
        meta = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        for damage in ({}, meta | {"thresholds": ["x"]}, meta | {"thresholds": {"category": "x"}}):
            (folder / "model.json").write_text(json.dumps(damage), encoding="utf-8")
            time.sleep(0.3)
            assert client.post("/v1/classify", json={"text": TEXT}).json()["model"]["name"] == "two"
        save("three")
        end = time.monotonic() + 20
        while client.app.state.engine.name != "three 1.0" and time.monotonic() < end:
            time.sleep(0.1)
        assert client.post("/v1/classify", json={"text": TEXT}).json()["model"]["name"] == "three"


def test_a_file_comes_back_labelled(client):
    table = "工单编号,主要内容\n1,小区停水了\n2,\n3,公司拖欠工资\n".encode("gb18030")
    job = client.post("/v1/files", params={"name": "工单.csv"}, content=table).json()
    for _ in range(200):
        job = client.get(f"/v1/files/{job['id']}").json()
        if job["state"] in ("done", "failed"):
            break
        time.sleep(0.05)
    assert (job["state"], job["rows"], job["rejected"]) == ("done", 2, 1), job
    result = client.get(f"/v1/files/{job['id']}/result")
    assert result.content.decode("utf-8-sig").splitlines()[1].startswith("1,小区停水了,convenience")
    assert "EmptyTextError" in client.get(f"/v1/files/{job['id']}/rejects").text
    failed = client.post("/v1/files", params={"name": "x.csv"}, content=f"1,{SECRET}\n2,水\n".encode()).json()
    for _ in range(100):
        told = client.get(f"/v1/files/{failed['id']}")
        if told.json()["state"] == "failed":
            break
        time.sleep(0.05)
    assert told.json()["message"] == "TableError" and SECRET not in told.text
    assert client.get(f"/v1/files/{failed['id']}/result").status_code == 409
    assert client.post("/v1/files", params={"name": "x.xlsx"}, content=b"no zip").status_code == 422


def test_a_sheet_that_swells_is_not_read_to_its_end(tmp_path):
    with xlsxwriter.Workbook(str(tmp_path / "t.xlsx")) as book:
        sheet = book.add_worksheet()
        sheet.write_row(0, 0, ["编号", "内容"])
        for row in range(1, 20_000):  # the text stands once in the file
            sheet.write_row(row, 0, [str(row), TEXT * 1000])
    assert (tmp_path / "t.xlsx").stat().st_size < 1_000_000
    with pytest.raises(TableError, match="too much memory"):
        to_csv(tmp_path / "t.xlsx", tmp_path / "t.csv", memory=1 << 30)


def test_openapi_has_examples_and_the_page_needs_nothing_from_outside(client):
    described = client.get("/openapi.json").json()
    assert "examples" in described["components"]["schemas"]["TicketIn"]["properties"]["text"]
    page = client.get("/")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for path in ("/", "/page.css", "/page.js"):
        text = client.get(path).text
        assert "http://" not in text and "https://" not in text


def _free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Server:
    """A real server process, started as a user does or by other arguments of Python's."""

    def __init__(self, folder, how=("-m", "jiesu_nlp.cli", "serve"), **settings):
        self.port, self.log = _free_port(), folder / "server.log"
        given = {"feedback": folder / "feedback.db", "files": folder / "files", "port": self.port} | settings
        environment = os.environ | {f"JIESU_{k.upper()}": str(v) for k, v in given.items()}
        self.process = subprocess.Popen(
            [sys.executable, *how], env=environment, cwd=folder,
            stderr=self.log.open("ab"), start_new_session=True,
        )  # fmt: skip
        self.url = f"http://127.0.0.1:{self.port}"
        for _ in range(200):
            try:
                if httpx.get(self.url + "/readyz").status_code == 200:
                    return
            except httpx.HTTPError:
                time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def stop(self, how=signal.SIGTERM):
        os.killpg(self.process.pid, how)
        self.process.wait(20)


@pytest.fixture
def server(tmp_path):
    started = []

    def start(**settings):
        started.append(Server(tmp_path, **settings))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.stop(signal.SIGKILL)


def test_64_clients_at_twice_the_bound_see_no_5xx_and_leave_no_text(server, tmp_path):
    running = server(concurrency=32)
    statuses = []

    def ask(i):
        with httpx.Client(timeout=60) as client:
            for k in range(4):
                body = {"id": f"{i}-{k}", "text": SECRET + str(i), "department": "water"}
                kind = ("feedback", body) if k == 3 else ("classify", {"text": SECRET + str(random.random())})
                statuses.append((kind[0], client.post(f"{running.url}/v1/{kind[0]}", json=kind[1]).status_code))

    with ThreadPoolExecutor(64) as pool:
        list(pool.map(ask, range(64)))
    assert {status for _, status in statuses} <= {200, 429} and ("classify", 200) in statuses
    metrics = httpx.get(running.url + "/metrics").text
    stored = sum(1 for kind, status in statuses if (kind, status) == ("feedback", 200))
    running.stop(signal.SIGKILL)
    assert stored == len(list(FeedbackStore(tmp_path / "feedback.db", create=False).rows())) > 0
    assert SECRET not in metrics and "jiesu_requests_total" in metrics
    log = running.log.read_text(encoding="utf-8")
    assert SECRET not in log and SECRET.encode("unicode_escape").decode() not in log
    assert all(json.loads(line)["event"] for line in log.splitlines())


_HEAD = b"POST /v1/classify HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
_CHUNKED = _HEAD + b"transfer-encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("start", "endless"),
    [
        (b"GET /", b"a"),
        (_HEAD, b"x-%d: y\r\n"),
        (_HEAD + b"x: ", b"y"),
        (_CHUNKED + b"0\r\n", b"x-%d: y\r\n"),
        (_CHUNKED + b"1;", b"x"),
    ],
)  # fmt: skip
def test_heads_trailers_and_chunk_extensions_have_an_end(server, start, endless):
    running = server()
    memory = psutil.Process(running.process.pid)
    before = memory.memory_info().rss
    piece = b"".join(endless.replace(b"%d", b"%d" % i) for i in range(2000))
    sent = 0
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as line:
        try:
            line.sendall(start)
            while sent < 50_000_000:
                line.sendall(piece)
                sent += len(piece)
        except OSError:
            pass
    assert sent < 50_000_000 and memory.memory_info().rss - before < 30_000_000
    assert httpx.post(running.url + "/v1/classify", json={"text": TEXT}).status_code == 200


def test_nobody_is_waited_for_for_ever(server):
    code = "import jiesu_nlp.serve.protocol as h; from jiesu_nlp.serve.run import run; h.HEAD_SECONDS = 1; run({})"
    running = server(how=("-c", code))
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as silent:
        assert silent.recv(1) == b""
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as slow, pytest.raises(OSError):
        for byte in b"GET /" + b"a" * 100:
            slow.sendall(bytes([byte]))
            time.sleep(0.1)
    with httpx.Client() as client:  # what is asked in time is answered, again and again
        for _ in range(3):
            assert client.post(running.url + "/v1/classify", json={"text": TEXT}).status_code == 200
            time.sleep(0.7)


def test_a_head_of_usual_size_and_requests_sent_together_are_answered(server):
    running = server()
    body = json.dumps({"text": TEXT}).encode()
    one = _HEAD + b"cookie: " + b"c" * 60_000 + b"\r\ncontent-length: %d\r\n\r\n" % len(body) + body
    with socket.create_connection(("127.0.0.1", running.port), timeout=10) as line:
        line.sendall(one * 5)
        read = b""
        while read.count(b"HTTP/1.1 200 OK") < 5:
            more = line.recv(65536)
            assert more
            read += more


@pytest.mark.parametrize("workers", [1, 2])
def test_a_server_that_cannot_start_says_so_in_its_status(workers, tmp_path):
    command = [sys.executable, "-m", "jiesu_nlp.cli", "serve", "--workers", str(workers), "--port", str(_free_port())]
    environment = os.environ | {"JIESU_MODEL": str(tmp_path / "none")}
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, timeout=60)
    assert ended.returncode == 3 and b"not a readable model folder" in ended.stderr


def test_a_worker_killed_amid_feedback_loses_nothing_acknowledged(server, tmp_path):
    running = server(workers=2)
    acknowledged = []

    def tell(i):
        for k in range(30):
            try:
                body = {"id": f"{i}-{k}", "text": TEXT, "department": "water"}
                if httpx.post(running.url + "/v1/feedback", json=body, timeout=10).status_code == 200:
                    acknowledged.append(f"{i}-{k}")
            except httpx.HTTPError:
                time.sleep(0.05)

    threads = [threading.Thread(target=tell, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    children = psutil.Process(running.process.pid).children()
    workers = [child for child in children if any("spawn_main" in word for word in child.cmdline())]
    assert len(workers) == 2
    workers[0].kill()
    for thread in threads:
        thread.join()
    stored = {row["id"] for row in FeedbackStore(tmp_path / "feedback.db", create=False).rows()}
    assert set(acknowledged) <= stored and len(acknowledged) > 60


def test_what_was_accepted_is_finished_before_the_server_stops(server):
    running = server()
    results = []

    def ask():
        items = [{"text": TEXT * 40}] * 200
        results.append(httpx.post(running.url + "/v1/classify/batch", json={"items": items}, timeout=60).status_code)

    thread = threading.Thread(target=ask)
    thread.start()
    time.sleep(0.4)
    running.stop()
    thread.join()
    assert results == [200] and running.process.returncode == 0


WITHOUT_FILES = """
import os, sys, tempfile
del os.environ["JIESU_FILES"]
tempfile.tempdir = sys.argv[1]
from jiesu_nlp.serve.run import run
run({})
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_server_that_is_stopped_leaves_no_files(server, tmp_path, how):
    running = server(how=("-c", WITHOUT_FILES, str(tmp_path)))
    sent = httpx.post(running.url + "/v1/files?name=t.csv", content=f"text\n{TEXT}\n".encode()).json()
    for _ in range(100):
        if httpx.get(f"{running.url}/v1/files/{sent['id']}").json()["state"] == "done":
            break
        time.sleep(0.1)
    assert list(tmp_path.glob("jiesu-files-*"))
    running.stop(how)
    assert not list(tmp_path.glob("jiesu-files-*"))


def test_a_body_that_trickles_is_not_waited_for(server):
    running = server(timeout=1)
    with socket.create_connection(("127.0.0.1", running.port), timeout=20) as line:
        line.sendall(b"POST /v1/files?name=t.csv HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        begin, answer = time.monotonic(), b""
        line.settimeout(0.2)
        while not answer and time.monotonic() - begin < 15:
            try:
                line.sendall(b"x")
                answer = line.recv(100)
            except TimeoutError:
                continue
        assert b" 408 " in answer


def test_settings_that_are_wrong_are_named(tmp_path):
    command = [sys.executable, "-m", "jiesu_nlp.cli", "serve"]
    done = subprocess.run(
        command, env=os.environ | {"JIESU_PORT": "99999999"}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and "JIESU_PORT" in done.stderr and "Traceback" not in done.stderr


def test_any_request_that_follows_the_schema_gets_an_answer(tmp_path):
    import schemathesis
    from hypothesis import HealthCheck, given, settings

    with TestClient(create_app(_settings(tmp_path, history=str(tmp_path / "h.db")))) as client:
        schema = schemathesis.openapi.from_dict(client.get("/openapi.json").json())

        for result in schema.include(path_regex="^/v1/(classify|feedback|history)").get_all_operations():

            @given(case=result.ok().as_strategy())
            @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
            def check(case):
                response = client.request(case.method, case.formatted_path, json=case.body)
                assert response.status_code < 500, response.text

            check()
