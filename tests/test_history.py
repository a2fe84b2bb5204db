import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
import sqlalchemy as sa
from conftest import ROOT, install
from hypothesis import given, settings
from hypothesis import strategies as st

from jiesu_nlp import classify
from jiesu_nlp.errors import HistoryError
from jiesu_nlp.history import History, Ticket

DAY = datetime(2026, 1, 10, tzinfo=UTC)
HEAT = "望京西园四区家里暖气不热,只有十五度"
LIFT = "方庄芳古园一区电梯三天两头坏"


def _at(days):
    return DAY + timedelta(days=days)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """The URL of a real PostgreSQL on loopback, in a temporary folder."""
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        install("postgresql")
        binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("PostgreSQL is not installed, and it may not be installed here")
    folder = Path("/tmp") / f"jiesu-pg-{os.getpid()}"  # short: a socket's path may have 107 bytes
    folder.mkdir()
    as_user = []
    if os.getuid() == 0:  # initdb refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data, bin_ = folder / "data", binaries[-1]
    run = {"check": True, "capture_output": True, "cwd": folder}
    subprocess.run([*as_user, str(bin_ / "initdb"), "-D", str(data), "-U", "jiesu", "-A", "trust", "-E", "UTF8"], **run)
    options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder} -c fsync=off"
    control = [*as_user, str(bin_ / "pg_ctl"), "-D", str(data), "-w"]
    subprocess.run([*control, "-o", options, "-l", str(folder / "log"), "start"], **run)
    try:
        yield f"postgresql+psycopg://jiesu@127.0.0.1:{port}/postgres"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path):
    if request.param == "sqlite":
        return str(tmp_path / "history.db")
    url = request.getfixturevalue("postgres")
    with sa.create_engine(url).begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS meta, tickets, postings, outcomes"))
    return url


def test_the_same_matter_is_found_at_the_same_place(where):
    with History(where) as history:
        tickets = [
            Ticket("heat", HEAT, _at(-20)),
            Ticket("lift", LIFT, _at(-10)),
            Ticket("elsewhere", "天通苑北二区暖气不热", _at(-5)),
        ]
        assert history.append(tickets) == 3 and len(history) == 3
        found = history.similar("望京西园四区暖气又不热了", before=DAY)
        assert [ticket.id for ticket in found] == ["heat"]
        assert found[0].similarity > 0.3 and "望京西园" in found[0].shared
        assert history.similar("我家暖气不热", place="望京西园", before=DAY)[0].id == "heat"
        assert history.similar("芳古园电梯坏了", before=DAY)[0].id == "lift"
        assert history.similar("建议增加公交班次", before=DAY) == []


def test_appending_again_changes_nothing(where):
    with History(where) as history:
        assert history.append([Ticket("1", HEAT, DAY), Ticket("1", LIFT, DAY), Ticket("2", LIFT, DAY)]) == 2
        assert history.append([Ticket("1", LIFT, _at(3)), Ticket("3", LIFT, DAY)]) == 1
        assert [(row.id, row.text) for row in history.tickets()] == [("1", HEAT), ("2", LIFT), ("3", LIFT)]


def test_only_what_was_known_before_counts(where):
    with History(where) as history:
        history.append([Ticket("1", HEAT, _at(0)), Ticket("2", HEAT, _at(10))])
        assert history.similar(HEAT, before=_at(0)) == []
        assert [t.id for t in history.similar(HEAT, before=_at(10))] == ["1"]
        assert history.similar(HEAT, before=_at(20), window=timedelta(days=5)) == []
        history.answer("1", "已解决", _at(5))
        history.answer("1", "已解决", _at(5))
        assert history.similar(HEAT, before=_at(5))[0].outcome is None
        assert history.similar(HEAT, before=_at(6))[0].outcome == "已解决"
        assert len(history.place_times("望京西园", _at(10))) == 1
        with pytest.raises(HistoryError, match="no ticket"):
            history.answer("7", "x", DAY)


TEXTS = st.text(st.sampled_from("望京西园四区小区路暖气不热噪音电梯坏了a0,。 \x00🙂"), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(TEXTS, st.integers(-60, 60), st.integers(1, 40)), max_size=8),
    TEXTS,
    st.sampled_from([DAY, DAY.replace(tzinfo=None), DAY.astimezone(timezone(timedelta(hours=8)))]),
)
def test_the_future_never_leaks(rows, text, at):
    """A ticket's answer is the same whether or not later tickets, and later answers, are in the history."""
    question = "望京西园" + text
    first = classify(question)
    own = {"category": first.category.code, "department": first.department.code}
    with History("sqlite://") as past, History("sqlite://") as all_:
        for i, (body, day, later) in enumerate(rows):
            all_.append([Ticket(str(i), body, _at(day), "望京西园", **own, outcome="办结", answered=_at(day + later))])
            if day < 0:
                closed = {"outcome": "办结", "answered": _at(day + later)} if day + later < 0 else {}
                past.append([Ticket(str(i), body, _at(day), "望京西园", **own, **closed)])
        assert classify(question, history=all_, at=at) == classify(question, history=past, at=at)


def test_the_rate_of_a_class_knows_new_tickets_and_no_later_ones():
    with History("sqlite://") as history:
        assert history.class_rate("livability", "env", DAY) == 0.5
        history.append([Ticket(str(i), "油烟", _at(-60), "望京西园", "livability", "env") for i in range(8)])
        assert history.class_rate("livability", "env", DAY) == 0.8
        history.append([Ticket(f"later{i}", "油烟", _at(2), "望京西园", "livability", "env") for i in range(9)])
        assert history.class_rate("livability", "env", DAY) == history.class_rate("livability", "env", _at(1)) == 0.8


WRITER = """
import sys
from datetime import UTC, datetime
from jiesu_nlp.history import History, Ticket
history = History(sys.argv[1])
for i in range(int(sys.argv[2]), 100000, 7):
    time = datetime(2026, 1, 1, tzinfo=UTC)
    history.append([Ticket(str(k), f"第{k}号小区停水,物业不管", time) for k in range(i, i + 7)])
    print(i + 7, flush=True)
"""


def _writer(where):
    command = [sys.executable, "-c", WRITER, where, "0"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_killed_while_appending_nothing_acknowledged_is_lost(where):
    acknowledged = 0
    for pause in (0.05, 0.2, 0.4):
        writer = _writer(where)
        assert writer.stdout
        first = writer.stdout.readline()
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        lines = [first, *writer.stdout.read().splitlines()]
        writer.wait()
        acknowledged = max([acknowledged, *(int(line) for line in lines if line.strip().isdigit())])
        with History(where) as history:
            ids = [int(row.id) for row in history.tickets()]
            assert len(ids) == len(set(ids)) and set(range(acknowledged)) <= set(ids)
            assert len(ids) % 7 == 0  # a batch is whole or absent
            found = history.similar("第3号小区停水,物业不管", top=None)
            assert len(found) == min(len(ids), 150)
    assert acknowledged > 0


def test_many_read_while_one_writes(where):
    writer = _writer(where)
    assert writer.stdout
    writer.stdout.readline()
    seen = []
    with History(where) as history:
        for _ in range(20):
            seen.append(len(history))
            assert history.similar("3号小区停水,物业不管")
    writer.kill()
    writer.wait()
    assert seen == sorted(seen) and seen[-1] > seen[0]


def test_two_writers_take_turns(where):
    writers = [_writer(where) for _ in range(2)]
    for writer in writers:
        assert writer.stdout and [writer.stdout.readline() for _ in range(20)][-1].strip() == "140"
    for writer in writers:
        writer.kill()
        writer.wait()
    with History(where) as history:
        ids = [row.id for row in history.tickets()]
    assert len(ids) == len(set(ids)) >= 140


def test_a_wrong_place_is_a_clear_error(tmp_path):
    (tmp_path / "text.db").write_text("这不是数据库" * 100, encoding="utf-8")
    for bad in (tmp_path / "text.db", tmp_path / "no" / "folder" / "x.db", "postgresql+psycopg://nobody@127.0.0.1:1/x"):
        with pytest.raises(HistoryError, match="cannot be opened"):
            History(bad)
    with pytest.raises(HistoryError, match="jiesu history add"):
        History(tmp_path / "absent.db", create=False)
    url = tmp_path / "old.db"
    with History(url):
        pass
    with sa.create_engine(f"sqlite:///{url}").begin() as connection:
        connection.execute(sa.text("UPDATE meta SET value = '0'"))
    with pytest.raises(HistoryError, match="format 0"):
        History(url)


ANY = st.text(st.characters(exclude_categories=()), max_size=60)


@settings(max_examples=60, deadline=None)
@given(ANY, ANY, ANY)
def test_any_text_can_be_stored_and_looked_up(text, place, outcome):
    with History("sqlite://") as history:
        _store_and_find(history, text, place, outcome)


@settings(max_examples=15, deadline=None)
@given(ANY, ANY, ANY)
def test_any_text_can_be_stored_in_postgres(postgres, text, place, outcome):
    with sa.create_engine(postgres).begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS meta, tickets, postings, outcomes"))
    with History(postgres) as history:
        _store_and_find(history, text, place, outcome)


def _store_and_find(history, text, place, outcome):
    history.append([Ticket("1" + text, text, DAY, place, outcome, outcome, outcome, DAY)])
    assert len(history) == 1
    history.similar(text, place=place)
    history.answer("1" + text, outcome or "x", _at(1))


def test_a_later_export_brings_the_answer(where):
    with History(where) as history:
        history.append([Ticket("1", HEAT, _at(-9))])
        assert history.append([Ticket("1", HEAT, _at(-9), outcome="已解决", answered=_at(-2))] * 2) == 0
        assert history.similar(HEAT, before=DAY)[0].outcome == "已解决"


def test_threads_share_a_history_in_memory():
    with History("sqlite://") as history:
        history.append([Ticket("1", HEAT, DAY)])
        seen = []
        thread = threading.Thread(target=lambda: seen.append(len(history)))
        thread.start()
        thread.join()
        assert seen == [1]


@pytest.mark.parametrize(
    "bad",
    [{"id": 7}, {"text": None}, {"time": "2026-01-01"}, {"place": 5}, {"answered": 3}, {"text": "水" * 100_001}],
)
def test_a_ticket_of_wrong_types_is_refused(bad):
    with pytest.raises(HistoryError, match="a ticket's"):
        Ticket(**({"id": "1", "text": HEAT, "time": DAY} | bad))


def test_errors_of_the_database_keep_the_text_to_themselves(tmp_path):
    with History(tmp_path / "h.db") as history:
        with sa.create_engine(f"sqlite:///{tmp_path / 'h.db'}").begin() as connection:
            connection.execute(sa.text("DROP TABLE tickets"))
        with pytest.raises(HistoryError) as error:
            history.append([Ticket("1", HEAT, DAY)])
    assert "望京" not in str(error.value)


def test_another_programs_database_is_left_alone(tmp_path):
    other = tmp_path / "other.db"
    with sa.create_engine(f"sqlite:///{other}").begin() as connection:
        connection.execute(sa.text("CREATE TABLE theirs (x)"))
    with pytest.raises(HistoryError, match="not a history"):
        History(other, create=False)
    assert sa.inspect(sa.create_engine(f"sqlite:///{other}")).get_table_names() == ["theirs"]


def test_many_processes_may_open_a_new_history_at_once(tmp_path):
    code = "import sys; from jiesu_nlp.history import History; print(len(History(sys.argv[1])))"
    command = [sys.executable, "-c", code, str(tmp_path / "new.db")]
    opened = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)]
    assert [process.communicate()[0].strip() for process in opened] == ["0"] * 4
