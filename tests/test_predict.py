import copy
import dataclasses
import json
import pickle
import threading
from functools import cache

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from jiesu_nlp import Classification, Classifier, Rejected, classify
from jiesu_nlp.errors import EmptyTextError, InvalidTextError, ModelFormatError, NoChineseError
from jiesu_nlp.taxonomy import Label, Taxonomy
from jiesu_nlp.train import train

TEXTS = [
    "供暖季都过一周了我家还是十五度,找物业说找热力,热力说找物业",
    "请问非京籍孩子明年上小学需要准备哪些材料",
    "公司拖欠三个月工资,老板联系不上",
    "建议92路延长到地铁站,方便居民换乘",
    "路口红绿灯坏了两天没人修",
]


@cache
def _classifier(name):
    return Classifier.load(name)


def test_the_founding_complaints_are_placed():
    """The eight complaints of the article that founded the project, in our own words."""
    cases = [
        ("小区自来水管老化渗水,居民用水困难", {"water"}),
        ("楼前的大树把窗户全挡住了,屋里白天都要开灯,请修剪", {"parks"}),
        ("我们小区160户收房多年,一直拿不到房产证", {"planning", "housing"}),
        ("地铁车厢空调太凉,能不能把温度调高一点", {"metro"}),
        ("人行道上的拦车桩顶灯太刺眼,晚上晃得人看不清路", {"citymgmt", "transport", "police"}),
        ("楼道里到处贴着小广告,没人清理", {"enforce", "citymgmt", "subdistrict", "housing"}),
        ("门前人行道砖凹凸不平,老人走路容易摔", {"transport", "citymgmt"}),
        ("高速路上的辅助灯太亮,晃得司机睁不开眼", {"transport", "police", "citymgmt"}),
    ]
    wrong = [text for text, fit in cases if not fit & {d.code for d in classify(text).departments[:2]}]
    assert not wrong


def test_one_in_one_out_list_in_list_out():
    assert isinstance(classify(TEXTS[0]), Classification)
    assert [type(a) for a in classify(TEXTS)] == [Classification] * len(TEXTS)
    assert classify([]) == []


def test_the_answer_is_whole_and_frozen():
    answer = classify(TEXTS[0], top=33)
    for ranked in (answer.categories, answer.departments, answer.intents):
        assert sum(s.probability for s in ranked) == pytest.approx(1, abs=1e-5)
        assert [s.probability for s in ranked] == sorted((s.probability for s in ranked), reverse=True)
    assert 0 <= answer.recurrence.score_known <= answer.recurrence.score <= 1
    assert answer.recurrence.is_prior and answer.handling.basis.startswith("条例")
    assert any(w.weight > 0 for w in answer.explanation)
    with pytest.raises(dataclasses.FrozenInstanceError):
        answer.needs_review = True  # type: ignore[misc]


def test_to_dict_follows_the_published_schema():
    import jsonschema
    from pydantic import TypeAdapter

    published = json.loads((ROOT / "docs" / "classification.schema.json").read_text(encoding="utf-8"))
    assert published == TypeAdapter(Classification).json_schema()
    for text in TEXTS:
        answer = json.loads(json.dumps(classify(text).to_dict()))
        jsonschema.validate(answer, published)


def test_every_route_gives_the_same_bits():
    classifier = Classifier.load()
    alone = [classifier.classify(text) for text in TEXTS]
    assert classifier.classify(TEXTS) == alone
    assert classifier.classify_batch(TEXTS * 50, batch_size=7) == alone * 50
    results: list[list] = []
    threads = [threading.Thread(target=lambda: results.append(classifier.classify_batch(TEXTS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [alone] * 4


def test_a_bad_row_leaves_the_others():
    answers = classify([TEXTS[0], "", "only latin", TEXTS[1]])
    assert [type(a) for a in answers] == [Classification, Rejected, Rejected, Classification]
    assert (answers[1].row, answers[1].error) == (1, EmptyTextError.__name__)
    assert (answers[2].row, answers[2].error) == (2, NoChineseError.__name__)
    assert "latin" not in answers[2].message
    assert [type(a) for a in classify(["", ""])] == [Rejected, Rejected]
    with pytest.raises(EmptyTextError):
        classify("  ")


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.text(),
        st.text(alphabet=st.characters(exclude_categories=())),
        st.text(alphabet="<>&;投诉\x00\ud800🙂A3区0", max_size=60),
    ),
    st.sampled_from(["default", "accurate"]),
)
def test_arbitrary_unicode_answers_or_raises_a_named_error(text, name):
    try:
        answer = _classifier(name).classify(text)
    except InvalidTextError:
        return
    assert np.isfinite([s.probability for s in answer.categories]).all()
    for cue in answer.recurrence.evidence:
        assert text[cue.start : cue.end] == cue.text


@pytest.mark.parametrize("name", ["default", "accurate"])
def test_half_a_character_costs_no_other_its_answer(name):
    half, whole = _classifier(name).classify(["小区停水\ud83d好几天", "公司拖欠工资"])
    assert isinstance(half, Classification) and whole.department.code == "hrss"


@pytest.mark.parametrize("name", ["default", "accurate"])
def test_a_classifier_goes_to_another_process(name):
    used = _classifier(name)
    before = used.classify(TEXTS[0])
    assert pickle.loads(pickle.dumps(used)).classify(TEXTS[0]) == before
    assert copy.deepcopy(used).classify(TEXTS[0]) == before


def test_a_group_is_one_of_several_categories():
    assert classify("公司拖欠工资三个月").group.name == "七有"
    thanks = classify("感谢政府感谢党,社区工作人员热情周到,特此表扬")
    assert thanks.category.code == "other" and thanks.group is None


def test_recurrence_of_other_levels_is_left_to_the_packaged_model(tmp_path):
    rows = [json.loads(line) for line in (ROOT / "data" / "samples" / "water.jsonl").open(encoding="utf-8")]
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps(r | {"recurrence": "否是"[r["recurrence"] > 0]}) + "\n" for r in rows))
    own = Taxonomy.from_values({"recurrence": ["否", "是"], "department": ["water"]})
    known = Taxonomy.load()
    heads = {"recurrence": own.heads["recurrence"], "department": known.heads["department"]}
    train(
        [table], tmp_path / "m", labels=["recurrence", "department"], taxonomy=dataclasses.replace(known, heads=heads)
    )
    assert Classifier.load(tmp_path / "m").classify(TEXTS[0]).recurrence == classify(TEXTS[0]).recurrence


def test_a_long_text_of_one_character_is_answered():
    assert classify("啊" * 100_000).needs_review


def test_low_confidence_asks_for_review_and_still_ranks():
    answer = classify("唉")
    assert answer.needs_review and answer.review_reasons and len(answer.departments) == 3


def _renamed(taxonomy, old, new):
    def rename(label: Label) -> Label:
        return dataclasses.replace(label, code=new, name=new) if label.code == old else label

    heads = {h: tuple(map(rename, labels)) for h, labels in taxonomy.heads.items()}
    return dataclasses.replace(taxonomy, heads=heads, mapping={"department": {old: (new,)}})


def test_a_renamed_department_needs_no_retraining():
    before = classify(TEXTS[2])
    after = Classifier.load(taxonomy=_renamed(Taxonomy.load(), "hrss", "labour")).classify(TEXTS[2])
    assert before.department.code == "hrss" and after.department.code == "labour"
    assert before.department.probability == after.department.probability


def test_merged_departments_add_up():
    taxonomy = Taxonomy.load()
    heads = dict(taxonomy.heads) | {
        "department": tuple(label for label in taxonomy.heads["department"] if label.code != "medins")
    }
    merged = dataclasses.replace(taxonomy, heads=heads, mapping={"department": {"medins": ("health",)}})
    text = "异地住院的费用医保怎么报销"
    apart = {s.code: s.probability for s in classify(text, top=33).departments}
    together = {s.code: s.probability for s in Classifier.load(taxonomy=merged).classify(text, top=33).departments}
    assert together["health"] == pytest.approx(apart["health"] + apart["medins"], abs=1e-6)


@pytest.mark.parametrize("damage", [{}, {"coef": [[1.0]], "intercept": [0.0]}, "text", {"coef": None, "intercept": 1}])
def test_damaged_recurrence_parameters_are_refused(damage):
    model = Classifier.load().model
    with pytest.raises(ModelFormatError, match="recurrence"):
        Classifier(dataclasses.replace(model, meta=dict(model.meta) | {"recurrence": damage}))


def test_a_model_of_some_heads_is_completed_by_the_packaged_one(tmp_path):
    tables = [ROOT / "data" / "samples" / f"{name}.jsonl" for name in ("water", "tax", "edu")]
    taxonomy = Taxonomy.load()
    three = [label for label in taxonomy.heads["department"] if label.code in ("water", "tax", "edu")]
    heads = {"department": tuple(three)}
    train(tables, tmp_path, labels=["department"], taxonomy=dataclasses.replace(taxonomy, heads=heads), name="mine")
    mine, packaged = Classifier.load(tmp_path).classify(TEXTS[1], top=33), classify(TEXTS[1])
    assert {d.code for d in mine.departments} == {"water", "tax", "edu"} and mine.department.code == "edu"
    assert mine.categories[:3] == packaged.categories and mine.intents[:3] == packaged.intents
    assert mine.recurrence == packaged.recurrence and mine.model.name == "mine"
    train(tables, tmp_path / "other", labels=["form"])
    with pytest.raises(ModelFormatError, match="none of the heads"):
        Classifier.load(tmp_path / "other")


def test_a_misspelt_argument_is_refused():
    with pytest.raises(TypeError, match="histroy"):
        classify(TEXTS[0], histroy=None)
    with pytest.raises(ValueError, match="top"):
        classify(TEXTS[0], top=0)
    with pytest.raises(ValueError, match="batch_size"):
        _classifier("default").classify_batch(TEXTS, batch_size=-1)
