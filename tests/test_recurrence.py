import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from jiesu_nlp import classify
from jiesu_nlp.cues import RECURRENCE_KINDS, find_cues
from jiesu_nlp.errors import HistoryError
from jiesu_nlp.forecast import forecast
from jiesu_nlp.history import History, Ticket
from jiesu_nlp.hotspots import hotspots
from jiesu_nlp.matter import read_matter
from jiesu_nlp.places import find_places, own_place
from jiesu_nlp.recurrence import Past, activity, with_past
from jiesu_nlp.taxonomy import packaged_table

DAY = datetime(2026, 1, 10, tzinfo=UTC)
HEAT = "望京西园四区家里暖气不热,只有十五度"


def _at(days):
    return DAY + timedelta(days=days)


@pytest.fixture
def history():
    with History("sqlite://") as store:
        yield store


def test_the_answer_says_what_the_history_knows(history):
    text = "望京西园四区暖气又不热了"
    before = classify(text).recurrence
    assert before.is_prior and (before.count, before.last_seen, before.again) == (0, None, None)
    history.append(
        [
            Ticket("a", HEAT, _at(-40), outcome="已解决", answered=_at(-35)),
            Ticket("b", "望京西园四区暖气冰凉,一直不热", _at(-3)),
        ]
    )
    after = classify(text, history=history, at=DAY).recurrence
    assert not after.is_prior and after.count == 2 and after.came_back
    assert after.last_seen == _at(-3).isoformat() and (after.month_count, after.year_count) == (2, 2)
    assert {e.ticket for e in after.evidence if e.kind == "past"} == {"a", "b"}
    assert after.score >= before.score and after.score_known >= before.score_known
    assert 0 < after.again < 1
    assert classify([text], history=history, at=[DAY])[0].recurrence == after
    first = classify(text, history=history, at=_at(-50)).recurrence
    assert first.count == 0 and not first.came_back and first.score == before.score


def test_a_list_of_times_must_fit(history):
    with pytest.raises(ValueError, match="2 texts, but 1"):
        classify([HEAT, HEAT], history=history, at=[DAY])


def test_the_past_never_lowers_a_score():
    levels = np.array([0.5, 0.3, 0.2], np.float32)
    for rate in (0.0, 0.4, 1.0):
        for came_back in (False, True):
            p = with_past(levels, Past((), 1, 1, came_back, rate, None))
            assert p.sum() == pytest.approx(1, abs=1e-6) and p[0] <= levels[0] + 1e-6


def test_a_busy_place_is_likelier_to_come_back(history):
    assert (
        activity(np.array([1.0, 3.0, 9.0]))
        > activity(np.array([1.0]))
        > activity(np.array([300.0]))
        > activity(np.zeros(0))
    )


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("向物业反映了多次,至今没有解决", {"repeated", "unanswered"}),
        ("打了三次12345,社区都是敷衍", {"repeated", "unanswered"}),
        ("路灯坏了三个多月了", {"long_standing", "ageing"}),
        ("每到雨天就积水,居民苦不堪言", {"periodic", "collective"}),
        ("三百多户业主拿不到房产证,开发商一拖再拖", {"collective", "unanswered"}),
        ("楼下烧烤天天到凌晨,城管来了就收,走了又摆", {"periodic"}),
        ("自2019年入住以来电梯频繁故障", {"long_standing"}),
        ("无照游商每天占道", {"periodic"}),
        ("我特别多次反映", {"repeated"}),
        ("每天这么吵", {"periodic"}),
        ("多次投诉为什么没人管", {"repeated"}),
    ],
)
def test_kinds_of_evidence(text, kinds):
    assert kinds <= {cue.kind for cue in find_cues(text)}


@pytest.mark.parametrize(
    "text",
    ["请问公租房怎么申请", "我没有反映过这个问题", "是不是每年都要年检", "我每天上班坐地铁", "感谢您的回复"],
)
def test_no_evidence_where_there_is_none(text):
    assert not [cue for cue in find_cues(text) if cue.kind in RECURRENCE_KINDS]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("朝阳区望京西园四区停车难", "望京西园"),
        ("我家住在天通苑小区,暖气不热", "天通苑"),
        ("地铁西二旗站早高峰限流", "地铁西二旗站"),
        ("东四北大街路口红绿灯坏了", "东四北大街"),
        ("萧太后河的水发臭", "萧太后河"),
        ("方庄第三小学门口车太多", "方庄第三小学"),
        ("A3区丽景新城小区没有路灯", "丽景新城"),
        ("幸福路小学门口堵车", "幸福路小学"),
        ("龙腾苑三区12号楼3单元电梯坏了", "12号楼"),
        ("回龙观街道没人管", "回龙观街道"),
    ],
)
def test_places_are_found(text, key):
    assert key in {place.key for place in find_places(text)}


def test_places_have_the_callers_offsets_and_generic_ones_do_not_count():
    text = "Ａ３区的望京西园小区和政府、物业公司、小区、人行道"
    found = find_places(text)
    assert all(text[p.start : p.end] == p.text for p in found)
    assert [p.key for p in found] == ["a3区", "望京西园"]


def test_no_pattern_can_run_away():
    """Unbounded repetition makes a long run of one character quadratic."""
    tables = {"cues": ("kind", "pattern", "basis", "note", "now"), "cue_words": ("name", "words", "note")}
    for table, columns in tables.items():
        for row in packaged_table(table, *columns):
            assert not re.search(r"(?<!\\)[*+]|\{\d+,\}", row[columns[1]]), row["note"]


def test_copies_beyond_the_largest_component_stay_one_group(history, monkeypatch):
    monkeypatch.setattr("jiesu_nlp.hotspots._LARGEST", 10)
    history.append([Ticket(str(i), HEAT, _at(-i)) for i in range(20)])
    assert hotspots(history)["tickets"].to_list() == [20]
    with pytest.raises(HistoryError, match="half-life"):
        hotspots(history, half_life=0)


SAME_PLACE = [
    "家里暖气不热只有十五度",
    "电梯三天两头坏困人两次",
    "物业乱收停车费",
    "幼儿园名额不够",
    "快递柜占了消防通道",
]


@pytest.mark.parametrize("place", ["农贸市场", "物美超市", "新发地市场", "首都市民中心"])
def test_a_place_with_a_city_in_its_name_is_no_city(place):
    assert own_place(place) == place


@pytest.mark.parametrize("place", ["望京西园", "北京市朝阳区", "海淀"])
def test_one_place_has_many_matters(history, place):
    classes = ["convenience", "safety", "housing", "childcare", None]
    history.append([Ticket(str(i), text, _at(-i - 1), place, classes[i]) for i, text in enumerate(SAME_PLACE)])
    assert not history.similar("井盖破损容易摔倒", place=place, before=_at(0))
    assert [t.id for t in history.similar("暖气还是不热,才十五度", place=place, before=_at(0))] == ["0"]
    assert len(hotspots(history)) == 0


def test_tickets_of_a_station_named_by_its_road_count_for_it(history):
    history.append([Ticket(str(i), "幸福路地铁站门口黑车揽客", _at(-i - 1)) for i in range(5)])
    matter = read_matter("幸福路地铁站门口黑车揽客")
    assert len(history.place_times(matter.places[0], _at(0))) == 5


def test_what_one_block_of_pairs_connects_the_next_one_keeps(history, monkeypatch):
    monkeypatch.setattr("jiesu_nlp.hotspots._BLOCK", 4)
    names = "王李张刘陈杨黄赵吴周徐孙"
    history.append([Ticket(str(i), f"{HEAT},联系人{name}女士", _at(-i)) for i, name in enumerate(names)])
    assert hotspots(history)["tickets"].to_list() == [len(names)]


def test_hotspots_group_one_matter_and_rank_by_heat(history):
    history.append(
        [Ticket(f"h{i}", HEAT + "," + "反映多次" * (i % 2), _at(-i), category="convenience") for i in range(4)]
    )
    history.append([Ticket(f"l{i}", "方庄芳古园电梯坏了没人修", _at(-100 - i)) for i in range(3)])
    history.append([Ticket("alone", "天通苑的路灯不亮", _at(-1))])
    frame = hotspots(history)
    assert frame["tickets"].to_list() == [4, 3] and frame["heat"].is_sorted(descending=True)
    assert set(frame["ids"][0]) == {"h0", "h1", "h2", "h3"} and frame["representative"][0] in frame["ids"][0]
    assert frame["place"][0] == "望京西园" and "暖气" in frame["title"][0] and frame["category"][0] == "convenience"
    assert (frame["first"][0], frame["last"][0]) == ("2026-01-07", "2026-01-10")
    assert hotspots(history, since=_at(-50))["tickets"].to_list() == [4]
    assert len(hotspots(history, until=_at(-400))) == 0


def _monthly(months, places=6):
    """A place with tickets each month, one each winter, the others now and then."""
    for m in range(months):
        when = datetime(2023 + m // 12, m % 12 + 1, 15, tzinfo=UTC)
        for p in range(places):
            if p == 0 or (p == 1 and when.month in (11, 12, 1)) or (p > 1 and (m * 7 + p * 3) % 11 == 0):
                yield Ticket(f"{m}-{p}", "停水", when, f"望京{p}号院小区", "convenience")


def test_forecast_ranks_what_comes_every_month_first(history):
    history.append(_monthly(30))
    result = forecast(history)
    assert result.month == "2025-06" and result.table["place"][0] == "望京0号院"
    assert result.table["probability"].is_sorted(descending=True)
    assert result.backtest.height >= 3 and result.backtest["auroc"].mean() > 0.6
    assert forecast(history, at=datetime(2025, 1, 1, tzinfo=UTC)).month == "2025-01"
    history.append([Ticket("late", "停水", datetime(2025, 6, 28, tzinfo=UTC), "望京0号院小区", "convenience")])
    assert forecast(history).month == "2025-07"  # June is as good as full


def test_forecast_sees_only_the_months_before(history):
    history.append(_monthly(24))
    before = forecast(history, at=datetime(2024, 12, 1, tzinfo=UTC)).table
    history.append(
        [
            Ticket(f"new{i}", "停水", datetime(2024, 12, 2 + i, tzinfo=UTC), "新地方小区", "convenience")
            for i in range(9)
        ]
    )
    assert forecast(history, at=datetime(2024, 12, 20, tzinfo=UTC)).table.equals(before)


def test_a_backtest_without_a_month_has_its_columns(history):
    history.append(_monthly(7))
    assert forecast(history).backtest["auroc"].to_list() == []


def test_forecast_needs_months(history):
    history.append(_monthly(3))
    with pytest.raises(HistoryError, match="2 full months"):
        forecast(history)
