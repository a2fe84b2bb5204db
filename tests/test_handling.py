import json

import pytest
from conftest import ROOT, SAMPLES

from jiesu_nlp.cues import find_cues
from jiesu_nlp.handling import decide, emergency_line
from jiesu_nlp.neardup import near_duplicate_groups
from jiesu_nlp.taxonomy import Taxonomy

EMERGENCIES = ROOT / "data" / "emergencies"


def _kinds(text):
    return {cue.kind for cue in find_cues(text)}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("楼里煤气泄漏了,味道很大", "hazard:119"),
        ("电梯里有人被困", "hazard:119"),
        ("隔壁别墅燃气泄漏", "hazard:119"),
        ("地铁站无障碍电梯有人被困", "hazard:119"),
        ("无名路口刚刚发生车祸", "hazard:122"),
        ("电梯里困了三个人", "hazard:119"),
        ("外墙皮坠落砸到车了", "hazard:110"),
        ("外墙瓷砖正在往下掉,砸到车了", "hazard:110"),
        ("路口刚刚发生车祸", "hazard:122"),
        ("家里燃气管道漏气", "hazard:119"),
        ("楼道里有煤气味,怀疑漏气", "hazard:119"),
        ("高压线断了掉在地上", "hazard:110"),
        ("老人晕倒了,叫不醒", "hazard:120"),
        ("路灯坏了,反映了很久没人管。刚才有个老人在路口晕倒了,叫不醒,请派人来", "hazard:120"),
        ("孩子走丢了怎么办,刚才还在公园门口", "hazard:110"),
        ("已经反映多次", "repeated"),
        ("向物业反映了五次", "repeated"),
        ("物业承诺月底修好,至今没动静", "unanswered"),
        ("这个问题三年了还没解决", "long_standing"),
        ("每到夏天就臭", "periodic"),
        ("全小区都停水", "collective"),
        ("管道老化", "ageing"),
        ("法院已经判决,我不服判决", "statutory"),
        ("两个部门互相推诿", "whistle"),
    ],
)
def test_cues_are_found(text, kind):
    assert kind in _kinds(text)


@pytest.mark.parametrize(
    "text",
    [
        "没有煤气泄漏",
        "如何防止燃气泄漏",
        "去年楼里煤气泄漏过一次",
        "万一煤气泄漏该打什么电话",
        "担心外墙瓷砖坠落",
        "社区组织燃气泄漏演练",
        "电梯老坏,怕有人被困电梯",
        "老人在电梯里被困过两次",
        "经常有人被困在电梯里",
        "上周楼道着火,火已经扑灭了",
        "煤气费怎么交",
        "听说附近有人持刀,是不是谣言",
        "被车撞了,保险公司不肯理赔",
        "气得我要吐血",
        "我住院时有位护士晕倒了," + "后来的事说来话长," * 30 + "现在还没有结论",
    ],
)
def test_hazards_negated_past_or_in_general_do_not_count(text):
    assert not any(kind.startswith("hazard") for kind in _kinds(text))


@pytest.mark.parametrize(
    ("text", "kind"), [("我没有反映过", "repeated"), ("是不是每年都要年检", "periodic"), ("我每天上班路过", "periodic")]
)
def test_recurrence_cues_negated_or_asked_about_do_not_count(text, kind):
    assert kind not in _kinds(text)


def test_offsets_are_the_callers_own():
    text = "Ａ３区,管道老化,多次反映"
    for cue in find_cues(text):
        assert text[cue.start : cue.end] == cue.text


@pytest.mark.parametrize(
    ("intent", "department", "assisting", "cues", "code", "article"),
    [
        ("complaint", "citymgmt", False, {"hazard:119"}, "emergency", "第十一条"),
        ("complaint", "justice", False, {"statutory"}, "statutory", "第十一条"),
        ("consult", "hrss", False, set(), "answer", "第十一条"),
        ("complaint", "housing", False, {"escalate"}, "escalate", "第二十条"),
        ("complaint", "water", True, {"whistle"}, "whistle", "第十六条"),
        ("complaint", "subdistrict", True, set(), "whistle", "第十六条"),
        ("complaint", "subdistrict", False, set(), "subdistrict", "第十二条"),
        ("complaint", "water", True, set(), "direct", "第十二条"),
    ],
)
def test_rules(intent, department, assisting, cues, code, article):
    handling = decide(intent, department, assisting, cues)
    assert handling.code == code and article in handling.basis
    assert handling.line == ("119" if code == "emergency" else "")


def test_of_several_lines_the_highest_number_is_called():
    assert emergency_line({"hazard:110", "hazard:119", "repeated"}) == "119"
    assert emergency_line({"repeated"}) == ""


def _emergencies(name):
    return [json.loads(row) for row in (EMERGENCIES / f"{name}.jsonl").open(encoding="utf-8")]


def _line(text):
    return emergency_line(cue.kind for cue in find_cues(text))


@pytest.mark.parametrize(("name", "found", "false"), [("known", 0.85, 0.02), ("unseen", 0.58, 0.08)])
def test_emergencies_are_told_from_what_only_sounds_like_one(name, found, false):
    rows = [(row["line"], _line(row["text"])) for row in _emergencies(name)]
    real = [(asked, said) for asked, said in rows if asked]
    others = [said for asked, said in rows if not asked]
    assert sum(bool(said) for _, said in real) >= found * len(real)
    assert sum(asked == said for asked, said in real) >= 0.9 * sum(bool(said) for _, said in real)
    assert sum(map(bool, others)) <= false * len(others)


LONG = "小区绿化一直不错,物业也还热心,邻里关系都好。"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("路口追尾", "122"),  # one short report
        (LONG * 3 + "路口追尾,主路堵死了。", ""),  # in a longer text it must be said to be now
        (LONG * 3 + "今天路口追尾,主路堵死了。", "122"),
        (LONG * 12 + "今天路口追尾,主路堵死了。", ""),  # of a story 今天 is not said enough,
        (LONG * 12 + "刚才路口追尾,主路堵死了。", "122"),  # 刚才 is
        (LONG * 12 + "厨房一股子煤气味。", "119"),  # which nobody tells of another day
        ("老人晕倒了是不是要自己出钱", ""),
        ("老人晕倒了叫不醒怎么办", "120"),
        ("昨天有人正在打架,被劝住了", ""),
        ("去年电梯坏过,现在孩子被困电梯里", "119"),  # a clause's own time goes before its neighbour's
        ("孩子没掉进河里", ""),
        ("电梯没有困人", ""),
        ("楼道里着火了;上次反映的路灯还没修", "119"),
        ("上次反映的路灯还没修;楼道里着火了", "119"),
        ("路灯怎么报修?楼道里着火了", "119"),
        ("我妈昨天下午走失,至今没找到", "110"),  # who is missing since yesterday is missing now
        ("昨晚孩子没回家,手机关机", "110"),
        ("昨天走失的老人已经找到了", ""),
        ("去年走失的孩子至今没有消息", ""),
        ("给独居老人家里装个燃气泄漏报警器", ""),
        ("２０２４年５月３日来电,家里着火了", "119"),
    ],
)
def test_a_danger_counts_while_it_is_there(text, line):
    assert _line(text) == line


@pytest.mark.parametrize("name", ["life", "matters", "portal", "short", "tickets"])
def test_ordinary_tickets_are_no_emergencies(name):
    bodies = [json.loads(row)["body"] for row in (SAMPLES / f"{name}.jsonl").open(encoding="utf-8")]
    assert sum(bool(_line(body)) for body in bodies) <= 0.008 * len(bodies)


def test_unseen_emergencies_are_like_none_that_is_known():
    samples = [json.loads(row)["body"] for row in (SAMPLES / "emergencies.jsonl").open(encoding="utf-8")]
    known = samples + [row["text"] for row in _emergencies("known")]
    unseen = _emergencies("unseen")
    groups = near_duplicate_groups([*known, *(row["text"] for row in unseen)], similarity=0.5)
    assert not set(groups[: len(known)]) & set(groups[len(known) :])
    taxonomy = Taxonomy.load()
    for row in unseen:
        assert all(str(row[head]) in taxonomy.codes(head) for head in taxonomy.heads)
