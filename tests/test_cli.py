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


def test_import_is_light_and_pulls_no_torch():
    code = "import sys, jiesu_nlp; print(sorted({'torch','sklearn','jieba','polars','numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT).stdout.strip() == "[]"
