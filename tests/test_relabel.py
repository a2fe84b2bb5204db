import csv
import json
import os
import signal
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import polars as pl
import psutil
import pytest
from conftest import ROOT, SAMPLES
from typer.testing import CliRunner

from jiesu_nlp import classify
from jiesu_nlp.cli import app
from jiesu_nlp.errors import ModelFormatError, TableError
from jiesu_nlp.parallel import map_ahead
from jiesu_nlp.relabel import LABEL_COLUMNS, relabel

TEXTS = ["小区停水三天了", "公司拖欠工资", "路灯坏了没人修", "楼下烧烤油烟太大", "建议增加公交班次"]


def _csv(path, rows, encoding="utf-8"):
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([["工单编号", "主要内容", "承办单位"], *rows])
    return path


@pytest.fixture
def table(tmp_path):
    return _csv(tmp_path / "in.csv", [[i, TEXTS[i % 5], "市水务局"] for i in range(23)])


def _read(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_rows_keep_their_order_and_columns_and_gain_labels(table, tmp_path):
    summary = relabel(table, tmp_path / "out.csv", chunk_rows=5)
    rows = _read(tmp_path / "out.csv")
    assert [row["工单编号"] for row in rows] == [str(i) for i in range(23)] and summary.rows == 23
    assert list(rows[0]) == ["工单编号", "主要内容", "承办单位", *LABEL_COLUMNS]
    for row in rows[:5]:
        answer = classify(row["主要内容"])
        assert row["jiesu_department"] == answer.department.code
        assert float(row["jiesu_recurrence"]) == round(answer.recurrence.score, 4)
    assert summary.labels["department"].total() == 23 and summary.changed["department"]["water"].total() == 23
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.csv", "out.csv"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx", "jsonl", "parquet"])
def test_every_format_in_and_out(ending, table, tmp_path):
    out = tmp_path / f"a.{ending}"
    relabel(table, out, chunk_rows=7)
    again = tmp_path / "b.jsonl"
    frame = {"xlsx": pl.read_excel, "parquet": pl.read_parquet, "jsonl": pl.read_ndjson}.get(ending)
    if frame:
        assert frame(out)["主要内容"].to_list() == [TEXTS[i % 5] for i in range(23)]
    with pytest.raises(TableError, match="labelled before"):
        relabel(out, again)
    given = tmp_path / f"c.{ending}"
    if ending in ("csv", "tsv"):
        given.write_text("\n".join(out.read_text(encoding="utf-8-sig").splitlines()).replace("jiesu_", "old_"), "utf-8")
    else:
        labelled = frame(out).rename(lambda name: name.replace("jiesu_", "old_"))
        {"xlsx": labelled.write_excel, "parquet": labelled.write_parquet, "jsonl": labelled.write_ndjson}[ending](given)
    assert relabel(given, again).rows == 23
    for row in pl.read_ndjson(again).to_dicts():
        assert str(row["jiesu_department"]) == str(row["old_department"])
        assert row["主要内容"] == TEXTS[int(row["工单编号"]) % 5]


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "xlsx"])
def test_one_process_or_two_and_any_run_give_the_same_bytes(ending, table, tmp_path):
    outs = [tmp_path / f"{name}.{ending}" for name in ("one", "two", "again")]
    for out, jobs in zip(outs, (1, 2, 1), strict=True):
        relabel(table, out, jobs=jobs, chunk_rows=4)
    assert len({out.read_bytes() for out in outs}) == 1


def test_gb18030_folders_and_globs(tmp_path):
    (tmp_path / "in").mkdir()
    _csv(tmp_path / "in" / "b.csv", [[2, TEXTS[1], ""]])
    _csv(tmp_path / "in" / "a.csv", [[1, TEXTS[0], ""]], "gb18030")
    for inputs in (tmp_path / "in", str(tmp_path / "in" / "*.csv")):
        relabel(inputs, tmp_path / "out.csv")
        assert [row["主要内容"] for row in _read(tmp_path / "out.csv")] == TEXTS[:2]


def test_bad_rows_go_to_the_rejects_with_the_reason(tmp_path):
    table = _csv(tmp_path / "in.csv", [[1, TEXTS[0], ""], [2, "", ""], [3, "abc", ""], [4], [5, TEXTS[1], ""]])
    summary = relabel(table, tmp_path / "out.csv", chunk_rows=2)
    rejects = _read(tmp_path / "out.csv.rejects")
    assert (summary.rows, summary.rejected) == (2, 3)
    assert [row["工单编号"] for row in _read(tmp_path / "out.csv")] == ["1", "5"]
    assert [(row["jiesu_row"], row["jiesu_error"]) for row in rejects] == [
        ("2", "EmptyTextError"),
        ("3", "NoChineseError"),
        ("4", "BrokenRow"),
    ]
    assert rejects[0]["工单编号"] == "2" and rejects[2]["工单编号"] == "4" and rejects[0]["jiesu_file"] == "in.csv"


JOB = """
import sys
from jiesu_nlp.relabel import relabel
relabel(sys.argv[1], sys.argv[2], jobs=int(sys.argv[3]), chunk_rows=20, progress=lambda n: print(n, flush=True))
"""


@pytest.mark.parametrize("jobs", [1, 2])
def test_killed_at_any_moment_and_run_again_the_output_is_the_same(jobs, tmp_path):
    table = _csv(tmp_path / "in.csv", [[i, TEXTS[i % 5] + str(i) if i % 9 else "", ""] for i in range(600)])
    relabel(table, tmp_path / "whole.csv", chunk_rows=20)
    out = tmp_path / "out.csv"
    command = [sys.executable, "-c", JOB, str(table), str(out), str(jobs)]
    begun = []
    for i in range(5):
        job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True)
        assert job.stdout
        begun.append(int(job.stdout.readline()))
        job.stdout.readline()
        time.sleep(0.03 * i)
        os.killpg(job.pid, signal.SIGKILL)
        job.wait()
        assert out.exists() or (tmp_path / "out.csv.partial").is_dir()
    assert max(begun) > 0  # it went on from what was done
    subprocess.run(command, check=True, cwd=ROOT, capture_output=True)
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()
    rejects = [path.with_name(path.name + ".rejects").read_bytes() for path in (out, tmp_path / "whole.csv")]
    assert rejects[0] == rejects[1]
    assert not (tmp_path / "out.csv.partial").exists()


def test_a_few_cut_characters_do_not_make_a_file_gb18030(tmp_path):
    rows = "".join(f"{i},{TEXTS[i % 5]}\r\n" for i in range(60)).encode()
    (tmp_path / "in.csv").write_bytes("工单编号,主要内容\r\n0,小区停水三天".encode()[:-1] + b"\r\n" + rows)
    relabel(tmp_path / "in.csv", tmp_path / "out.csv")
    assert [row["主要内容"] for row in _read(tmp_path / "out.csv")][1:6] == TEXTS
    (tmp_path / "gb.csv").write_bytes("id,text\n1,停水".encode("gb18030"))
    relabel(tmp_path / "gb.csv", tmp_path / "out.csv")
    assert _read(tmp_path / "out.csv")[0]["text"] == "停水"


def test_odd_rows_do_not_stop_a_job(tmp_path):
    table = _csv(tmp_path / "in.csv", [[1], [2, "小区停水\r三天了", ""], [3, TEXTS[1], ""]])
    assert relabel(table, tmp_path / "out.csv").rows == 2
    assert _read(tmp_path / "out.csv")[0]["主要内容"] == "小区停水\r三天了"
    lines = ['{"id": 1, "text": "停水\\ud83d三天"}', "[" * 100_000, '{"id": 2, "text": "欠薪不发"}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines), encoding="utf-8")
    for out in ("o.jsonl", "o.parquet", "o2.csv"):
        assert relabel(tmp_path / "in.jsonl", tmp_path / out).rows == 2


def test_the_output_is_never_an_input_and_an_input_never_twice(table, tmp_path):
    (tmp_path / "sub").mkdir()
    with pytest.raises(TableError, match="one of the inputs"):
        relabel(table, tmp_path / "sub" / ".." / "in.csv")
    assert relabel([table, tmp_path / "sub" / ".." / "in.csv"], tmp_path / "o.csv").rows == 23
    for wrong in ({"jobs": 0}, {"old": ["nohead=承办单位"]}):
        with pytest.raises(TableError):
            relabel(table, tmp_path / "p.csv", **wrong)


def test_a_half_deleted_folder_of_parts_is_not_taken_for_a_job(table, tmp_path):
    def stop(rows):
        if rows:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relabel(table, tmp_path / "out.csv", chunk_rows=5, progress=stop)
    (tmp_path / "out.csv.partial" / "job.json").unlink()
    _csv(table, [[i, "公司拖欠工资", ""] for i in range(23)])
    relabel(table, tmp_path / "out.csv", chunk_rows=5)
    assert {row["主要内容"] for row in _read(tmp_path / "out.csv")} == {"公司拖欠工资"}


def test_workers_end_with_the_process_they_work_for(tmp_path):
    table = _csv(tmp_path / "in.csv", [[i, TEXTS[i % 5] * 40, ""] for i in range(3000)])
    command = [sys.executable, "-c", JOB, str(table), str(tmp_path / "o.csv"), "2"]
    job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    assert job.stdout
    for _ in range(3):
        job.stdout.readline()
    children = psutil.Process(job.pid).children(recursive=True)
    job.kill()
    job.wait()
    gone, alive = psutil.wait_procs(children, timeout=20)
    assert gone and not alive


def test_an_unfinished_job_with_other_settings_is_not_mixed_in(table, tmp_path):
    out = tmp_path / "out.csv"

    def stop(rows):
        if rows:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        relabel(table, out, chunk_rows=5, progress=stop)
    with pytest.raises(TableError, match="unfinished job"):
        relabel(table, out, chunk_rows=6)
    with pytest.raises(ModelFormatError):
        relabel(table, tmp_path / "new.csv", model=tmp_path / "none")
    assert not (tmp_path / "new.csv.partial").exists()  # what cannot begin leaves nothing behind
    assert relabel(table, out, chunk_rows=6, restart=True).rows == 23


def test_a_job_is_not_restarted_under_another_process(table, tmp_path):
    out, refused = tmp_path / "out.csv", []

    def intrude(rows):
        if rows:
            with pytest.raises(TableError, match="another process"):
                relabel(table, out, text=["工单编号"], restart=True)
            refused.append(rows)

    assert relabel(table, out, chunk_rows=5, progress=intrude).rows == 23 and refused
    assert [row["主要内容"] for row in _read(out)] == [TEXTS[i % 5] for i in range(23)]


def test_names_and_cells_that_are_no_plain_text_do_not_stop_a_job(table, tmp_path):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xcb\xae.csv"))  # a name in GBK, as out of a zip from Windows
    try:
        table.replace(odd)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert relabel(odd, tmp_path / "o.csv").rows == 23
    nested = pl.DataFrame({"text": ["小区停水三天"], "steps": [[{"when": datetime(2026, 1, 2)}]]})
    nested.write_parquet(tmp_path / "n.parquet")
    assert relabel(tmp_path / "n.parquet", tmp_path / "m.parquet").rows == 1


@pytest.mark.parametrize(
    ("inputs", "out", "message"),
    [
        (["no.csv"], "o.csv", "no such file"),
        (["in.csv"], "in.csv", "one of the inputs"),
        (["in.csv"], "o.doc", "must end in"),
        (["in.csv"], "no/o.csv", "no such folder"),
        (["in.csv", "other.csv"], "o.csv", "the first file"),
        (["empty.csv"], "o.csv", "no rows"),
    ],
)
def test_what_cannot_work_is_said_at_once(inputs, out, message, table, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.csv").write_text("a,主要内容\n1,停水\n", encoding="utf-8")
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    with pytest.raises(TableError, match=message):
        relabel(inputs, out)


@pytest.mark.parametrize("length", [40_000, 140_000])
def test_a_cell_that_no_sheet_holds_is_said(length, tmp_path):
    (tmp_path / "long.jsonl").write_text(json.dumps({"a": "x" * length, "主要内容": "停水"}), encoding="utf-8")
    with pytest.raises(TableError, match="so long a cell; name a csv file"):
        relabel(tmp_path / "long.jsonl", tmp_path / "out.xlsx")


def test_samples_from_jsonl(tmp_path):
    summary = relabel(SAMPLES / "tax.jsonl", tmp_path / "o.jsonl")
    first = json.loads((tmp_path / "o.jsonl").read_text(encoding="utf-8").splitlines()[0])
    assert summary.rows == 50 and first["id"] == "W-tax-001" and isinstance(first["jiesu_needs_review"], bool)


def test_ray_gives_the_same_output(table, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    relabel(table, tmp_path / "local.csv", chunk_rows=4)
    relabel(table, tmp_path / "ray.csv", chunk_rows=4, engine="ray", jobs=2)
    assert (tmp_path / "ray.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()
    with pytest.raises(TableError, match="neither"):
        relabel(table, tmp_path / "x.csv", engine="spark")


def test_the_command(table, tmp_path):
    out = tmp_path / "out.csv"
    command = ["relabel", str(table), str(out), "--old", "department=承办单位", "--jobs", "1"]
    shown = CliRunner().invoke(app, command)
    assert shown.exit_code == 0 and "23 件已贴标签" in shown.output and "不同" in shown.output
    assert "市水务局" in shown.output
    counted = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)
    assert counted["rows"] == 23 and counted["changed"]["department"]["water"]["water"] > 0
    assert CliRunner().invoke(app, ["relabel", "no.csv", str(out)]).exit_code == 2


def test_the_tables_name_labels_as_the_model_does(table, tmp_path):
    header = "code,name,english,parent,definition,includes,excludes,source\n"
    (tmp_path / "labels").mkdir()
    units = header + "water,自来水集团,,,,,,\ntax,税务所,,,,,,\n"
    (tmp_path / "labels" / "department.csv").write_text(units, encoding="utf-8")
    toml = 'name="own"\nversion="1"\n[heads]\ndepartment="department.csv"\n'
    (tmp_path / "labels" / "taxonomy.toml").write_text(toml, encoding="utf-8")
    learned = [str(SAMPLES / f"{name}.jsonl") for name in ("water", "tax")]
    own = ["-o", str(tmp_path / "m"), "--label", "department", "--taxonomy", str(tmp_path / "labels"), "--jobs", "1"]
    trained = CliRunner().invoke(app, ["train", *learned, *own])
    assert trained.exit_code == 0, trained.output
    shown = CliRunner().invoke(app, ["relabel", str(table), str(tmp_path / "o.csv"), "--model", str(tmp_path / "m")])
    assert "自来水集团" in shown.output and "市水务局" not in shown.output


def test_two_jobs_at_a_time_do_not_end_each_other():
    first, second = map_ahead(abs, range(-40, 0), 2), map_ahead(abs, range(-40, 0), 2)
    assert next(first) == next(second) == 40
    first.close()
    assert list(second) == list(range(39, 0, -1))


def test_what_was_begun_before_the_items_break_is_finished():
    def items():
        yield from (-1, -2, -3)
        raise TableError("broken")

    found = []
    with pytest.raises(TableError):
        for one in map_ahead(abs, items(), 2):
            found.append(one)
    assert found == [1, 2, 3]
