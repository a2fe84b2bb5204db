"""The written complaints: labels, counts, and no near-copies."""

import json
from collections import Counter

from conftest import ROOT, SAMPLES

from jiesu_nlp.neardup import near_duplicate_groups
from jiesu_nlp.taxonomy import Taxonomy
from jiesu_nlp.text import join_fields


def _rows():
    return [json.loads(line) for path in sorted(SAMPLES.glob("*.jsonl")) for line in path.open(encoding="utf-8")]


def test_labels_and_counts():
    rows, taxonomy = _rows(), Taxonomy.load()
    for row in rows:
        assert row["id"].startswith(f"W-{row['department']}-")
        for head in ("category", "department", "intent", "recurrence"):
            assert str(row[head]) in taxonomy.codes(head), row["id"]
        assert row["second"] is None or row["second"] in taxonomy.codes("category")
        assert row["co"] is None or row["co"] in taxonomy.codes("department")
    assert len({row["id"] for row in rows}) == len(rows) >= 1300
    departments = Counter(row["department"] for row in rows)
    assert set(departments) == set(taxonomy.codes("department")) and min(departments.values()) >= 40
    assert {row["category"] for row in rows} == set(taxonomy.codes("category"))
    intents = Counter(row["intent"] for row in rows)
    assert set(intents) == set(taxonomy.codes("intent")) and intents["consult"] >= len(rows) / 3


def test_the_demo_history_is_what_its_script_makes(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(ROOT / "data"))
    import make_demo_history

    (tmp_path / "samples").symlink_to(SAMPLES)
    monkeypatch.setattr(make_demo_history, "HERE", tmp_path)
    make_demo_history.main()
    assert (tmp_path / "demo_history.csv").read_bytes() == (ROOT / "data" / "demo_history.csv").read_bytes()


def test_no_two_of_one_mould():
    rows = _rows()
    groups = near_duplicate_groups([join_fields(row["title"], row["body"]) for row in rows], similarity=0.5)
    twice = [g for g, n in Counter(groups.tolist()).items() if n > 1]
    assert not twice, [row["id"] for row, g in zip(rows, groups, strict=True) if g in twice]
