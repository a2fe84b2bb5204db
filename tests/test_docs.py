"""Every Python block of the docs and every docstring example runs."""

import doctest
import importlib
import re

import pytest
from conftest import ROOT

PAGES = [ROOT / "README.md", ROOT / "README.zh-CN.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").symlink_to(ROOT / "data")
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(compile(block, page.name, "exec"), names)


def test_the_two_readmes_have_the_same_code():
    blocks = [re.findall(r"```\w*\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL) for page in PAGES[:2]]
    assert blocks[0] == blocks[1]


@pytest.mark.parametrize("module", ["jiesu_nlp", "jiesu_nlp.predict"])
def test_docstring_examples(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0
