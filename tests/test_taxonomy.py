import shutil

import pytest

from jiesu_nlp.errors import TaxonomyError, TaxonomyMismatchError, UnknownLabelError
from jiesu_nlp.taxonomy import Label, Taxonomy, crosswalk, labels_folder


def test_packaged_taxonomy_is_whole():
    taxonomy = Taxonomy.load()
    assert {head: len(labels) for head, labels in taxonomy.heads.items()} == {
        "category": 13,
        "department": 33,
        "intent": 6,
        "recurrence": 3,
    }
    assert {label.parent for label in taxonomy.heads["category"]} == {"七有", "五性", "其他"}
    for labels in taxonomy.heads.values():
        assert all(label.definition and label.source and label.english for label in labels)


def test_crosswalk_covers_the_scheme_and_uses_known_codes():
    taxonomy, walk = Taxonomy.load(), crosswalk()
    assert len(walk) == 517
    assert {category for category, _ in walk.values()} <= set(taxonomy.codes("category"))
    assert {department for _, department in walk.values()} <= set(taxonomy.codes("department"))


@pytest.mark.parametrize(
    ("cell", "code"),
    [
        ("市人力社保局", "hrss"),
        ("人社局", "hrss"),
        ("公交集团公司", "metro"),
        ("交管局", "police"),
        ("朝阳区", "subdistrict"),
        ("water", "water"),
    ],
)
def test_real_department_names_resolve(cell, code):
    assert Taxonomy.load().resolve("department", cell) == code


def test_unknown_label_offers_near_names():
    with pytest.raises(UnknownLabelError, match="did you mean"):
        Taxonomy.load().resolve("department", "市人力社会局")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("category.csv", "education,", "childcare,", r"category.csv:3: code 'childcare' stands twice"),
        ("category.csv", "code,name", "code,title", r"category.csv:1: the header"),
        ("intent.csv", "help,求助", "help", r"intent.csv:3: 7 cells, expected 8"),
        ("aliases.csv", "教委,edu", "教委,nobody", r"aliases.csv:\d+: no code 'nobody'"),
        ("taxonomy.toml", "version", "edition", r"taxonomy.toml: needs name, version"),
    ],
)
def test_errors_name_file_and_line(tmp_path, file, old, new, message):
    folder = tmp_path / "labels"
    shutil.copytree(labels_folder(), folder)
    path = folder / file
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(TaxonomyError, match=message):
        Taxonomy.load(folder)


def _tiny(codes, mapping=None):
    labels = tuple(Label(code, code) for code in codes)
    return Taxonomy("t", "2", {"h": labels}, mapping={"h": mapping or {}})


def test_renamed_and_merged_codes_map():
    assert _tiny(["x", "y"], {"a": ("x",), "b": ("y",), "c": ("y",)}).migrate("h", ["a", "b", "c"]) == [0, 1, 1]


def test_a_split_asks_for_labels_by_name():
    with pytest.raises(TaxonomyMismatchError, match="a → x, y"):
        _tiny(["x", "y"], {"a": ("x", "y")}).migrate("h", ["a"])


def test_lost_and_added_codes_are_named():
    with pytest.raises(TaxonomyMismatchError, match=r"\['b'\].*\['z'\]"):
        _tiny(["a", "z"]).migrate("h", ["a", "b"])


def test_hash_follows_the_content():
    assert _tiny(["a", "b"]).hash == _tiny(["a", "b"]).hash != _tiny(["a", "c"]).hash
