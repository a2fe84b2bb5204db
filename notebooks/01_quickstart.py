# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 快速上手
#
# 一件诉求进来,答案出去:归哪一类(七有五性),派给谁、怎么派,这件事本来能不能先办。离线运行,自带模型。

# %%
from pathlib import Path

import polars as pl

from jiesu_nlp import Classifier, classify
from jiesu_nlp.errors import InvalidTextError

pl.Config.set_tbl_rows(12).set_fmt_str_lengths(36).set_tbl_width_chars(150)

answer = classify("小区自来水管老化渗水,居民用水困难,反映多次没人管")
for head, ranked in (("类别", answer.categories), ("部门", answer.departments), ("类型", answer.intents)):
    print(head, "   ".join(f"{label.name} {label.probability:.2f}" for label in ranked))
print("派单", answer.handling.name, answer.handling.basis)
print("未诉先办", f"{answer.recurrence.score:.2f}", [e.text for e in answer.recurrence.evidence])
print("复核", answer.needs_review, answer.review_reasons)

# %% [markdown]
# 每个标签都有代码、名称和校准过的概率:各类之和为 1;说 0.8 的,大约十次里有八次对。判断的依据是带正负号的词。

# %%
for word in answer.explanation:
    print(f"{word.head:<11} {word.word:<5} {word.weight:+.2f}")

# %% [markdown]
# ## 一批
# 传入列表就返回列表;不能分类的一件在原位留下 `Rejected`,其他照常。单独一件不能分类时抛出异常,说明怎么办。

# %%
texts = [
    "请问非京籍孩子明年上小学需要准备哪些材料",
    "公司拖欠三个月工资,老板联系不上",
    "",
    "楼里煤气泄漏了,味道很大",
    "路口红绿灯坏了两天没人修",
]
for text, one in zip(texts, classify(texts), strict=True):
    if hasattr(one, "error"):
        print(f"第 {one.row} 行 {one.error}:{one.message}")
    else:
        print(f"{text[:18]:<18} {one.category.name} {one.department.name} {one.handling.name} {one.handling.line}")

try:
    classify("hello")
except InvalidTextError as error:
    print(type(error).__name__, error)

# %% [markdown]
# ## 一张表
# 表头用热线常用列名即可;`jiesu relabel` 对百万行的表做同样的事,见 05。

# %%
from jiesu_nlp.tables import guess_columns, ids_of, read_table, texts_of

table = Path("data/demo.csv")
table = table if table.exists() else Path("..") / table
frame = read_table(table)
columns = guess_columns(frame.columns)
classifier = Classifier.load()
rows = [
    {
        "编号": key,
        "类别": one.category.name,
        "部门": one.department.name,
        "把握": round(one.department.probability, 2),
        "派单": one.handling.name,
        "未诉先办": round(one.recurrence.score, 2),
        "复核": one.needs_review,
    }
    for key, one in zip(ids_of(frame, columns), classifier.classify_batch(texts_of(frame, columns)), strict=True)
]
pl.DataFrame(rows)

# %% [markdown]
# ## 存成 JSON
# `to_dict()` 就是 HTTP 的回答,结构见 `docs/classification.schema.json`。

# %%
import json

print(json.dumps(answer.to_dict()["recurrence"], ensure_ascii=False, indent=1)[:420], "…")
