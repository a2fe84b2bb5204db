"""Labels that we gave to real texts by reading them: known codes, and texts that are there."""

import csv
import json

import pytest
from conftest import ROOT

from jiesu_nlp.taxonomy import Taxonomy

HEADS = {"second": "category", "co": "department"}
TABLES = {
    "corrections": "complaints_labelled",
    "readings/hangzhou_board": "hangzhou_board",
    "readings/seven_class_segmented": "seven_class_segmented",
}


@pytest.fixture(params=TABLES)
def table(request):
    path = ROOT / "data" / f"{request.param}.csv"
    with path.open(encoding="utf-8", newline="") as file:
        return TABLES[request.param], list(csv.DictReader(file))


def test_every_label_is_a_code(table):
    _, rows = table
    taxonomy = Taxonomy.load()
    codes = {head: {"", *taxonomy.codes(HEADS.get(head, head))} for head in rows[0] if head != "id"}
    for row in rows:
        assert all(row[head] in known for head, known in codes.items()), row["id"]
        assert any(row[head] for head in codes), row["id"]
    assert len({row["id"] for row in rows}) == len(rows)


def test_every_id_is_that_of_a_text(table, data_folder):
    name, rows = table
    texts = [json.loads(line) for line in (data_folder / f"{name}.jsonl").open(encoding="utf-8")]
    ids = {str(text.get("id", f"S{number}")) for number, text in enumerate(texts)}
    assert {row["id"] for row in rows} <= ids
