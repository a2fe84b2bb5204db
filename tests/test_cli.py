import json
import subprocess
import sys

import pytest
from conftest import ROOT, SAMPLES
from typer.testing import CliRunner

from jiesu_nlp import classify
from jiesu_nlp.cli import app


def _run(*arguments, **kwargs):
    return CliRunner().invoke(app, list(arguments), **kwargs)


def test_classify_prints_a_table_and_json():
    text = "楼下饭馆油烟太大,反映多次没人管"
    assert "派单" in _run("classify", text).output
    assert json.loads(_run("classify", text, "--json").output) == classify(text).to_dict()


def test_classify_reads_files_and_stdin_alike(tmp_path):
    from_file = _run("classify", "--file", str(SAMPLES / "tax.jsonl"), "--json")
    rows = [json.loads(line) for line in from_file.output.splitlines()]
    assert rows[0]["id"] == "W-tax-001" and len(rows) == 50
    answer = json.loads(_run("classify", "-", "--json", input="小区停水了\n路灯坏了\n").output.splitlines()[1])
    assert answer == {"id": "2"} | classify("路灯坏了").to_dict()


def test_bad_rows_are_named_and_counted(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("编号,内容\n1,小区停水\n2,\n", encoding="utf-8")
    result = _run("classify", "-f", str(path), "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout.splitlines()[1])["error"] == "EmptyTextError"


@pytest.mark.parametrize("arguments", [["classify", "abc"], ["classify", "-f", "no.csv"], ["info", "--model", "no"]])
def test_errors_are_one_line_and_exit_2(arguments):
    result = _run(*arguments)
    assert result.exit_code == 2 and "错误" in result.output and "Traceback" not in result.output


def test_train_evaluate_info(tmp_path):
    tables = [str(SAMPLES / f"{name}.jsonl") for name in ("water", "tax")]
    model = str(tmp_path / "m")
    done = _run("train", *tables, "-o", model, "--label", "department", "--jobs", "1", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["metrics"]["department"]["top1"] > 0.8
    page = tmp_path / "r.html"
    checked = _run("evaluate", tables[0], "--model", model, "--html", str(page), "--json")
    assert json.loads(checked.stdout)["rows"] == 50 and page.exists()
    assert json.loads(_run("info", "--model", model, "--json").stdout)["taxonomy"]["name"] == "beijing-qiyou-wuxing"


def test_history_hotspots_forecast(tmp_path):
    db, table = str(tmp_path / "h.db"), str(ROOT / "data" / "demo_history.csv")
    added = _run("history", "add", table, "--db", db, "--json")
    assert json.loads(added.stdout) == {"new": 987, "known": 0, "rejected": 0, "total": 987}
    assert json.loads(_run("history", "add", table, "--db", db, "--no-classify", "--json").stdout)["known"] == 987
    question = ("classify", "福星路半夜渣土车轰隆隆过", "--db", db, "--at", "2025-12-15")
    answer = json.loads(_run(*question, "--json").stdout)["recurrence"]
    assert answer["count"] > 10 and answer["came_back"] and not answer["is_prior"]
    assert "月次" in _run(*question).output
    hot = json.loads(_run("hotspots", db, "--days", "365", "--top", "3", "--json").stdout)
    assert [row["rank"] for row in hot] == [1, 2, 3] and "福星路" in hot[0]["title"]
    saved = tmp_path / "f.csv"
    ahead = json.loads(_run("forecast", db, "--json", "--out", str(saved)).stdout)
    assert ahead["month"] == "2026-01" and len(ahead["backtest"]) == 6 and saved.exists()
    assert "回测" in _run("forecast", db).output and "热度" in _run("hotspots", db).output


def test_history_names_bad_rows_and_keeps_the_others(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text(
        "工单编号,受理时间,主要内容\n1,2026-01-01 08:00,福星路路灯坏了\n2,不详,停水\n3,2026/1/2,\n", encoding="utf-8"
    )
    result = _run("history", "add", str(table), "--db", str(tmp_path / "h.db"), "--json")
    assert result.exit_code == 1 and json.loads(result.stdout)["rejected"] == 2
    assert "2:" in result.stderr and "3:" in result.stderr and "停水" not in result.stderr


@pytest.mark.parametrize(
    "command", [["hotspots", "no.db"], ["forecast", "no.db"], ["classify", "停水", "--db", "no.db"]]
)
def test_an_absent_history_is_not_made(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = _run(*command)
    assert result.exit_code == 2 and "history add" in result.output and not list(tmp_path.iterdir())


def test_import_is_light_and_pulls_no_torch():
    heavy = "{'torch','sklearn','jieba','polars','numpy','sqlalchemy'}"
    code = f"import sys, jiesu_nlp; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip() == "[]"


def test_a_first_answer_imports_nothing_that_only_training_needs():
    heavy = "{'torch','transformers','onnxruntime','tokenizers','sklearn','polars','sqlalchemy'}"
    code = (
        f"import sys; from jiesu_nlp import classify; classify('路灯坏了'); print(sorted({heavy} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_label_that_nobody_knows_is_left_to_the_model(tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("内容,受理时间,承办单位\n小区停水三天,2026-01-02,望京街道办事处\n", encoding="utf-8")
    added = _run("history", "add", str(table), "--db", str(tmp_path / "h.db"), "--json")
    assert json.loads(added.stdout)["new"] == 1, added.output


def test_a_row_whose_time_is_none_is_named_and_the_others_answered(tmp_path):
    table, db = tmp_path / "t.csv", str(tmp_path / "h.db")
    table.write_text("内容,受理时间\n小区停水三天,不详\n路灯坏了,2026-01-02\n", encoding="utf-8")
    assert _run("history", "add", str(ROOT / "data" / "demo_history.csv"), "--db", db).exit_code == 0
    done = _run("classify", "-f", str(table), "--db", db, "--json")
    first, second = map(json.loads, done.stdout.splitlines())
    assert done.exit_code == 1 and first["error"] == "TableError" and second["category"]


def test_standard_input_may_be_gb18030():
    done = _run("classify", "-", "--json", input="小区停水了\n路灯坏了\n".encode("gb18030"))
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["1", "2"]
