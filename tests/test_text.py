import json
import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jiesu_nlp import errors, native
from jiesu_nlp.errors import TableError
from jiesu_nlp.features import FeatureConfig, count_features, prepare
from jiesu_nlp.segment import _jieba, segment
from jiesu_nlp.tables import parse_time
from jiesu_nlp.text import MAX_CHARS, check_text, lead, normalise


@given(st.text())
def test_normalise_keeps_every_offset(text):
    assert len(normalise(text)) == len(text)
    assert normalise(normalise(text)) == normalise(text)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (None, errors.TextTypeError),
        (b"\xe4", errors.TextTypeError),
        ("", errors.EmptyTextError),
        (" \n\u3000\t", errors.EmptyTextError),
        ("hello 123 🙂", errors.NoChineseError),
        ("\ud800\x00", errors.NoChineseError),
        ("啊" * (MAX_CHARS + 1), errors.TextTooLongError),
        ("a" * 10_000_000, errors.TextTooLongError),
    ],
)
def test_each_bad_text_has_its_own_error(text, error):
    with pytest.raises(error) as caught:
        check_text(text)
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 120


def test_lead_is_the_title_or_the_first_sentence():
    assert lead("路灯不亮\n我家门口的灯坏了") == "路灯不亮"
    assert lead("路灯不亮。我家门口的灯坏了") == "路灯不亮"
    assert len(lead("路" * 200)) == 60


def test_one_character_words_and_numbers_are_kept():
    words, *_ = count_features("92路 车坐不上", FeatureConfig(lead_weight=1))
    assert words["路"] == 1 and words["0"] == 1


def test_ends_are_counted_apart_without_white_space():
    config = FeatureConfig(1, 2, 1, 2)
    _, whole, first, last = count_features("路 灯\n不亮", config)
    assert whole == dict.fromkeys(("路", "灯", "不", "亮", "路灯", "灯不", "不亮"), 1)
    assert (first, last) == (dict.fromkeys(("路", "灯", "路灯"), 1), dict.fromkeys(("不", "亮", "不亮"), 1))
    assert count_features("路灯不亮", FeatureConfig(edge=0))[2:] == ({}, {})


def test_place_codes_and_districts_say_nothing():
    assert prepare("A3区、B市、朝阳区望京") == "区、市、区望京"


def test_domain_words_stay_whole():
    assert {"小客车指标", "共有产权房"} <= set(segment("小客车指标和共有产权房怎么申请"))


@settings(deadline=None)  # the first call loads the dictionaries
@given(st.text(alphabet=st.characters(min_codepoint=0x4E00, max_codepoint=0x9FA5), max_size=40))
def test_engines_cut_arbitrary_chinese_into_the_same_characters(text):
    assert "".join(segment(text, "jieba")) == "".join(segment(text, "rjieba")) == text


def test_engines_agree_on_all_real_messages(data_folder):
    with (data_folder / "messages.jsonl").open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            text = prepare(row["title"] + "\n" + row["body"])
            words = segment(text, "jieba")
            assert words == segment(text, "rjieba"), row["id"]
            assert not native.loaded() or words == segment(text, "compiled"), row["id"]


def test_segmenting_leaves_the_importing_program_alone(capfd):
    before = logging.getLogger().level
    _jieba()  # loaded anew, whatever ran before
    segment("供暖", "jieba")
    assert logging.getLogger().level == before
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("cell", "time"),
    [
        ("2019-02-28 11:25:05", (2019, 2, 28, 11, 25, 5)),
        ("2019/2/8", (2019, 2, 8)),
        ("2026年1月31日8时30分", (2026, 1, 31, 8, 30)),
        ("2026-01-31T08:30:00.000", (2026, 1, 31, 8, 30)),
        ("2026-01-31T08:30:00+08:00", (2026, 1, 31, 0, 30)),
        ("2026-01-31T08:30:00Z", (2026, 1, 31, 8, 30)),
    ],
)
def test_times_as_tables_write_them(cell, time):
    assert parse_time(cell) == datetime(*time, tzinfo=UTC)


@pytest.mark.parametrize(
    "cell", ["2026-13-01", "2026-01-311", "3:30 PM", "2026-01-31 下午3:30", "昨天", "望京西园停水", ""]
)
def test_what_is_no_time_is_refused_and_not_quoted(cell):
    with pytest.raises(TableError) as error:
        parse_time(cell)
    assert not cell or cell not in str(error.value)
