"""Make data/demo_history.csv: thirty months of invented tickets of an invented sub-district.

    python data/make_demo_history.py

A dozen matters come back, each at its place, in its months and in several citizens' words; between them
stand single tickets taken from the written complaints of data/samples. Nothing in it is a real ticket.
"""

import csv
import json
import random
from datetime import datetime, timedelta
from pathlib import Path

from jiesu_nlp.taxonomy import Taxonomy

HERE = Path(__file__).parent
FIRST, MONTHS, BACKGROUND = datetime(2023, 7, 1), 30, 700
SUMMER, WINTER, ALL = (6, 7, 8, 9), (11, 12, 1, 2, 3), tuple(range(1, 13))

# place, months, tickets in such a month, share answered, what citizens wrote
MATTERS = [
    ("青云里小区", WINTER, 2.2, 0.8, ["{p}3号楼暖气不热,屋里只有15度", "{p}供暖一直不达标,老人冻得睡不着", "报修多次,{p}暖气还是冰凉", "{p}顶层几户暖气不热,物业说等热力公司"]),
    ("槐安家园", SUMMER, 1.8, 0.7, ["一下雨{p}地下车库就进水", "{p}门口排水不畅,雨后积水没过脚面", "{p}车库又被淹了,每年汛期都这样", "{p}雨水篦子堵了没人清掏,一到雨天就积水"]),
    ("福星路", ALL, 1.6, 0.5, ["{p}夜里渣土车轰隆隆过,睡不着觉", "{p}半夜大货车鸣笛,反映过好几次没人管", "{p}凌晨一两点渣土车不断,噪音扰民"]),
    ("明湖公园", SUMMER, 1.3, 0.6, ["{p}湖水发绿发臭,路过都捂鼻子", "{p}水面漂着死鱼,味道很大", "{p}湖里长满绿藻,一到夏天就臭"]),
    ("学院南里", ALL, 1.1, 0.6, ["{p}电梯三天两头坏,老人被困过", "{p}2单元电梯又停了,住户爬十层楼", "{p}电梯老化,维修一次管不了一周"]),
    ("东柳市场", ALL, 1.2, 0.7, ["{p}门口摊贩占道,路都走不了", "{p}周边占道经营,城管来了就收,走了又摆", "{p}外面卖菜的把人行道占满了"]),
    ("丰泽苑", (9, 10, 11), 1.5, 0.4, ["{p}开发商承诺的房产证三年了还没办下来", "{p}两百多户业主拿不到房产证", "{p}房产证一拖再拖,孩子上不了学"]),
    ("幸福路小学", (3, 4, 5, 9, 10, 11, 12), 1.3, 0.5, ["{p}门口放学时车乱停,孩子过马路危险", "{p}早晚高峰堵得水泄不通,没有交警疏导", "{p}门前缺红绿灯,家长们都很担心"]),
    ("青云里小区", SUMMER, 0.9, 0.8, ["{p}楼下烧烤油烟大,夏天开不了窗", "{p}底商烤串店露天烧烤到半夜,又吵又呛"]),
    ("地铁梧桐站", ALL, 0.8, 0.9, ["{p}出口共享单车堆成山,进不了站", "{p}门口共享单车乱停,盲道都被占了"]),
    ("云杉大厦", (12, 1, 2), 1.2, 0.3, ["{p}里的公司拖欠工资三个月,年底还不发", "{p}装修队干完活不结工钱,人都找不到了"]),
    ("梅园北里", ALL, 0.7, 0.6, ["{p}路灯坏了一片,晚上黑漆漆的", "{p}楼前路灯不亮好久了,老人摔过跤"]),
]  # fmt: skip


def _rows(rng: random.Random) -> list[tuple[datetime, str, str, datetime | None]]:
    rows = []
    for month in range(MONTHS):
        year, number = divmod(FIRST.month - 1 + month, 12)
        start = datetime(FIRST.year + year, number + 1, 1)
        for place, months, rate, answered, texts in MATTERS:
            for _ in range(int(rate + rng.random()) if start.month in months else rng.random() < 0.06):
                when = start + timedelta(minutes=rng.randrange(28 * 24 * 60))
                closed = when + timedelta(days=rng.randint(2, 12)) if rng.random() < answered else None
                rows.append((when, rng.choice(texts).format(p=place), "已解决" if closed else "", closed))
    # The files of departments: what others are added later leaves this table as it is.
    codes = Taxonomy.load().codes("department")
    files = [HERE / "samples" / f"{code}{part}.jsonl" for code in codes for part in ("", "-2")]
    samples = [json.loads(line) for p in sorted(files) if p.exists() for line in p.open(encoding="utf-8")]
    for sample in rng.sample([s for s in samples if len(s["body"]) < 200], BACKGROUND):
        when = FIRST + timedelta(minutes=rng.randrange(MONTHS * 30 * 24 * 60))
        rows.append((when, sample["body"], "已解决", when + timedelta(days=rng.randint(2, 12))))
    return sorted(rows, key=lambda row: row[0])


def main() -> None:
    """Write the table; the same every time."""
    with (HERE / "demo_history.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["工单编号", "受理时间", "主要内容", "办理结果", "办结时间"])
        for i, (when, text, outcome, closed) in enumerate(_rows(random.Random(7)), 1):
            writer.writerow(
                [f"D{i:05}", f"{when:%Y-%m-%d %H:%M}", text, outcome, f"{closed:%Y-%m-%d %H:%M}" if closed else ""]
            )


if __name__ == "__main__":
    main()
