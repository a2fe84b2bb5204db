import json
import shutil

import numpy as np
import polars as pl
import pytest
from conftest import SAMPLES

from jiesu_nlp import Classifier, classify
from jiesu_nlp.errors import ModelFormatError, TableError, TaxonomyError, TrainingDataError
from jiesu_nlp.evaluate import evaluate
from jiesu_nlp.metrics import abstain_threshold, assist_threshold, expected_calibration_error
from jiesu_nlp.models.store import model_folder
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.neardup import near_duplicate_groups
from jiesu_nlp.report import html_report
from jiesu_nlp.tables import guess_columns, read_table, texts_of
from jiesu_nlp.taxonomy import Taxonomy
from jiesu_nlp.train import train


def _table(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def _written(*names):
    return [json.loads(line) for name in names for line in (SAMPLES / f"{name}.jsonl").open(encoding="utf-8")]


def _two_classes(n=24):
    """Written complaints of two departments that are easy to tell apart."""
    return [
        {"text": row["body"], "label": label}
        for department, label in (("water", "水"), ("metro", "车"))
        for row in map(json.loads, (SAMPLES / f"{department}.jsonl").read_text(encoding="utf-8").splitlines()[:n])
    ]


def test_same_seed_same_bytes(tmp_path):
    table = _table(tmp_path / "t.jsonl", _two_classes())
    for name in ("a", "b"):
        train([table], tmp_path / name / "m", text=["text"], labels=["label"], jobs=1 if name == "a" else 2, name="m")
    for file in ("model.json", "arrays.safetensors"):
        assert (tmp_path / "a" / "m" / file).read_bytes() == (tmp_path / "b" / "m" / file).read_bytes()


def test_any_label_set_trains_and_predicts(tmp_path):
    table = _table(tmp_path / "t.jsonl", _two_classes())
    report = train([table], tmp_path / "m", text=["text"], labels=["label"])
    model = TfidfModel.load(tmp_path / "m")
    assert model.taxonomy.codes("label") == ("水", "车")
    assert report.metrics["label"]["top1"] > 0.6
    assert model.predict_proba(["自来水管漏水"])["label"].argmax() == 0


def test_vocabulary_needs_three_tickets(small_model, small_tables):
    frames = [read_table(table) for table in small_tables]
    texts = [text for frame in frames for text in texts_of(frame, guess_columns(frame.columns))]
    from jiesu_nlp.features import count_features

    tickets = [set(count_features(text, small_model.config)[0]) for text in texts]
    assert all(sum(word in ticket for ticket in tickets) >= 3 for word in small_model.words)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "自来水停了", "department": "水利部门甲"}, "is no code, name or alias"),
        ({"text": "  ", "department": "water"}, "the text is empty"),
        ({"text": "抗议税收", "department": "tax"}, "the only row of department 'tax'"),
    ],
)
def test_bad_training_rows_are_refused_by_row_and_reason(tmp_path, row, reason):
    rows = [
        {"id": i, "text": r["text"], "department": "water" if r["label"] == "水" else "metro"}
        for i, r in enumerate(_two_classes())
    ]
    table = _table(tmp_path / "t.jsonl", [*rows, {"id": 99} | row])
    with pytest.raises(TrainingDataError, match=rf"t.jsonl row 99: .*{reason}"):
        train([table], tmp_path / "m")


def test_too_few_different_tickets_is_a_clear_error(tmp_path):
    rows = [{"text": f"第{i}栋停水了没人管", "label": "ab"[i % 2]} for i in range(8)]
    with pytest.raises(TrainingDataError, match="3 different tickets"):
        train([_table(tmp_path / "t.jsonl", rows)], tmp_path / "m", text=["text"], labels=["label"])


PETITION = (
    "我们是清河花园的全体业主,开发商承诺的学校至今没有开工,孩子上学要走三公里,请督促尽快建设,给一个明确答复,联系人"
)
NAMES = [a + b + c for a in "王李张刘陈杨" for b in "建国文芳秀英" for c in "华军平丽明强红"]


@pytest.mark.parametrize("copies", [2, 250])  # of few all pairs are compared, of many one with the next
def test_near_copies_share_a_group(copies):
    other = [row["body"] for row in _written("tax")]
    groups = near_duplicate_groups([PETITION + name for name in NAMES[:copies]] + other)
    assert len(set(groups[:copies])) == 1 and len(set(groups)) == 1 + len(other)


def test_equal_texts_share_a_group_however_short():
    assert near_duplicate_groups(["停水", "停水", "停电"]).tolist() in ([0, 0, 1], [1, 1, 0])
    assert len(near_duplicate_groups(["停水断电" * k for k in range(1, 260)])) == 259  # of nothing but common phrases


def test_the_order_of_heads_is_that_of_their_names(tmp_path):
    rows = _written("tax", "water")
    table = _table(tmp_path / "t.jsonl", [r | {"zz": r["department"], "aa": r["intent"]} for r in rows])
    report = train([table], tmp_path / "m", labels=["zz", "aa"])
    model = TfidfModel.load(tmp_path / "m")
    assert list(model.taxonomy.heads) == ["aa", "zz"]
    found = model.predict_proba(report.examples.texts)["zz"].argmax(axis=1)
    assert (found == report.targets["zz"]).mean() > 0.95


def test_a_column_without_labels_is_no_head(tmp_path):
    rows = _written("tax", "water")
    table = [{"内容": r["body"], "承办单位": r["department"], "类别": None} for r in rows]
    train([_table(tmp_path / "t.jsonl", table)], tmp_path / "m")
    model = Classifier.load(tmp_path / "m")
    assert list(model.model.taxonomy.heads) == ["department"]
    assert model.classify("自来水管漏水停水三天了").category == classify("自来水管漏水停水三天了").category


def test_a_known_head_stays_checked_beside_one_of_ones_own(tmp_path):
    rows = [
        {"text": r["text"], "department": {"水": "市水务局", "车": "metro"}[r["label"]], "ks": r["label"]}
        for r in _two_classes()
    ]
    train([_table(tmp_path / "t.jsonl", rows)], tmp_path / "m", text=["text"], labels=["department", "ks"])
    taxonomy = TfidfModel.load(tmp_path / "m").taxonomy
    assert taxonomy.codes("ks") == ("水", "车") and taxonomy.codes("department") == Taxonomy.load().codes("department")


def test_no_message_shows_what_stands_in_a_column_of_texts(tmp_path):
    secret = "我住朝阳区某小区三号楼,电话写在这里,家里老人病重"
    rows = [*_two_classes(), {"text": "停水三天了没人管", "label": secret}]
    with pytest.raises(TrainingDataError) as caught:
        train([_table(tmp_path / "t.jsonl", rows)], tmp_path / "m", text=["text"], labels=["label"])
    assert "朝阳" not in str(caught.value) and "characters" in str(caught.value)


def test_a_vocabulary_without_words_is_read_again(tmp_path):
    texts = {"a": ["停水", "停电", "停气", "停车"], "b": ["路灯", "路口", "路面", "路边"]}
    rows = [{"text": text, "label": label} for label, some in texts.items() for text in some]
    train([_table(tmp_path / "t.jsonl", rows)], tmp_path / "m", text=["text"], labels=["label"])
    assert TfidfModel.load(tmp_path / "m").words == ()


def test_real_hotline_headers_are_guessed():
    columns = guess_columns(["工单编号", "标题", "主要内容", "承办单位", "工单类型", "受理时间"])
    assert columns.id == "工单编号" and columns.text == ("标题", "主要内容")
    assert columns.labels == {"department": "承办单位", "intent": "工单类型"}
    with pytest.raises(TableError, match="no text column"):
        guess_columns(["甲", "乙"])
    with pytest.raises(TableError, match="no column '丙'"):
        guess_columns(["甲", "乙"], text=["丙"])


def test_all_table_formats_read_the_same(tmp_path):
    frame = pl.DataFrame({"标题": ["停水", "停电"], "主要内容": ["一天了", "两天了"]})
    frame.write_csv(tmp_path / "a.csv")
    (tmp_path / "b.csv").write_bytes((tmp_path / "a.csv").read_text(encoding="utf-8").encode("gb18030"))
    frame.write_ndjson(tmp_path / "c.jsonl")
    frame.write_parquet(tmp_path / "d.parquet")
    frame.write_excel(tmp_path / "e.xlsx")
    for name in ("a.csv", "b.csv", "c.jsonl", "d.parquet", "e.xlsx"):
        table = read_table(tmp_path / name)
        assert texts_of(table, guess_columns(table.columns)) == ["停水\n一天了", "停电\n两天了"], name
    with pytest.raises(TableError, match="ending"):
        read_table(tmp_path / "f.doc")
    with pytest.raises(TableError, match="cannot be read"):
        read_table(tmp_path / "missing.csv")


def test_evaluate_reports_figures_and_ids(small_model, small_tables, tmp_path):
    report = evaluate(small_model, small_tables[0])
    department = report["heads"]["department"]
    assert department["figures"]["top1"] > 0.5
    assert department["coverage"][-1][0] == 1.0
    assert all(i.startswith("W-") for c in report["heads"]["intent"]["confusions"] for i in c["ids"])
    page = html_report(report, "测试")
    assert "<svg" in page and "http" not in page
    first = json.loads(small_tables[0].read_text(encoding="utf-8").splitlines()[0])
    assert first["body"][:12] not in page + json.dumps(report, ensure_ascii=False)


def test_metrics_on_known_cases():
    sure = np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.55, 0.45]], np.float32)
    target = np.array([0, 0, 0, 1])
    assert abstain_threshold(sure, target, 1.0) == pytest.approx(0.6)
    assert abstain_threshold(sure, target, 0.7) == pytest.approx(0.55)
    assert abstain_threshold(sure, np.array([1, 1, 1, 1]), 0.5) == 1.0
    certain = np.array([[1.0, 0.0]] * 4, np.float32)
    assert expected_calibration_error(certain, np.array([0, 0, 1, 1])) == pytest.approx(0.5)


def test_assist_threshold_finds_the_best_cut():
    p = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.85, 0.1, 0.05]], np.float32)
    assert assist_threshold(p, np.array([1, 1, -1])) == pytest.approx(0.3)
    assert assist_threshold(p, np.array([-1, -1, -1])) == 1.0


def test_default_model_is_small_and_fits_the_packaged_taxonomy():
    assert sum(f.stat().st_size for f in model_folder().iterdir()) <= 10_000_000
    model, taxonomy = TfidfModel.load(model_folder()), Taxonomy.load()
    assert {h: model.taxonomy.codes(h) for h in taxonomy.heads} == {h: taxonomy.codes(h) for h in taxonomy.heads}


def _damage(folder, name, content):
    (folder / name).write_bytes(content)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("model.json", b"{", "not a readable model folder"),
        ("model.json", b"[]", "not of format"),
        ("model.json", b'{"format": 99}', "not of format"),
        ("model.json", b'{"format": 2, "kind": "bert"}', "kind is 'bert'"),
        ("model.json", b'{"format": 2, "kind": "tfidf"}', "belong together"),
        ("arrays.safetensors", b"\x80\x04pickle", "not a readable model folder"),
    ],
)
def test_a_damaged_folder_is_a_named_error(tmp_path, small_model, file, content, message):
    small_model.save(tmp_path / "m")
    _damage(tmp_path / "m", file, content)
    with pytest.raises(ModelFormatError, match=message):
        TfidfModel.load(tmp_path / "m")


def test_save_and_load_round_trip(tmp_path, small_model):
    small_model.save(tmp_path / "m")
    text = ["自来水管漏水没人修"]
    again = TfidfModel.load(tmp_path / "m")
    for head, p in small_model.predict_proba(text).items():
        assert np.array_equal(p, again.predict_proba(text)[head])


def test_a_users_own_taxonomy_is_followed(tmp_path):
    folder = tmp_path / "labels"
    folder.mkdir()
    header = "code,name,english,parent,definition,includes,excludes,source\n"
    (folder / "kind.csv").write_text(header + "w,水务,,,,,,\nb,公交,,,,,,\n", encoding="utf-8")
    (folder / "taxonomy.toml").write_text('name="own"\nversion="3"\n[heads]\nkind="kind.csv"\n', encoding="utf-8")
    own = Taxonomy.load(folder)
    rows = [{"text": r["text"], "kind": {"水": "水务", "车": "b"}[r["label"]]} for r in _two_classes()]
    train([_table(tmp_path / "t.jsonl", rows)], tmp_path / "m", text=["text"], labels=["kind"], taxonomy=own)
    model = TfidfModel.load(tmp_path / "m")
    assert model.taxonomy.codes("kind") == ("w", "b") and model.taxonomy.hash != Taxonomy.load().hash
    shutil.rmtree(folder)
    with pytest.raises(TaxonomyError, match=r"taxonomy\.toml"):
        Taxonomy.load(folder)
