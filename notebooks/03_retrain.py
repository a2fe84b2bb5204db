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
# # 用自己的工单重新训练
#
# 从表格开始:认出列,训练,与自带模型比较,读错例,找出可能标错的标签,挑出最值得标的 50 件,保存,再加载。
# 这里用 `data/samples` 中编写的诉求;换成自己的 xlsx,只改第一格。

# %%
import json
import logging
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl

from jiesu_nlp import Classifier
from jiesu_nlp.curate import label_errors, worth_labelling
from jiesu_nlp.evaluate import evaluate
from jiesu_nlp.models.tfidf import TfidfModel
from jiesu_nlp.tables import guess_columns, read_table
from jiesu_nlp.train import train

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # the first font that is there serves
plt.rcParams["font.sans-serif"] = ["Noto Sans CJK SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "SimHei"]
plt.rcParams["figure.dpi"] = 80
pl.Config.set_tbl_rows(15).set_fmt_str_lengths(40).set_tbl_width_chars(150)

samples = Path("data/samples")
samples = samples if samples.exists() else Path("..") / samples
work = Path(tempfile.mkdtemp())

rows = [
    json.loads(line)
    for name in ("water", "tax", "edu", "metro", "postal", "sports", "disabled", "veterans")
    for line in (samples / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
]
order = np.random.default_rng(0).permutation(len(rows))
cut = len(rows) * 3 // 4
for name, chosen in (("训练", order[:cut]), ("测试", order[cut:])):
    frame = pl.DataFrame(
        {
            "工单编号": [rows[i]["id"] for i in chosen],
            "标题": [rows[i]["title"] for i in chosen],
            "主要内容": [rows[i]["body"] for i in chosen],
            "承办单位": [rows[i]["department"] for i in chosen],
        }
    )
    frame.write_excel(work / f"{name}.xlsx")

# %% [markdown]
# ## 一、认列
# 常用表头自动识别;认错时用 `text=` 和 `labels=` 指明。标签可以是代码、正式名称或别名。

# %%
table = read_table(work / "训练.xlsx")
print(guess_columns(table.columns))
table.head(3)

# %% [markdown]
# ## 二、训练
# 近重复的工单先归组,同组的不会既在训练又在验证。数字是组外的:每一件都由没有见过它的模型来判。

# %%
from jiesu_nlp import Taxonomy

full = Taxonomy.load()
kept = set(table["承办单位"].unique())
heads = {"department": tuple(label for label in full.heads["department"] if label.code in kept)}
mine = Taxonomy("八个部门", "1", heads, full.aliases)
report = train([work / "训练.xlsx"], work / "model", taxonomy=mine, name="mine")
print(f"{report.rows} 行,{report.groups} 组")
report.metrics["department"]

# %% [markdown]
# ## 三、与自带模型比较
# 自带模型见过这些编写的诉求,所以它的数字偏高;在自己的工单上比较才公平。

# %%
scores = {}
for name, folder in (("自己的", work / "model"), ("自带的", None)):
    model = TfidfModel.load(str(folder)) if folder else Classifier.load().model
    scores[name] = evaluate(model, work / "测试.xlsx")["heads"]["department"]
pl.DataFrame([{"模型": name, **result["figures"]} for name, result in scores.items()])

# %%
figure, axis = plt.subplots(figsize=(6, 3))
for name, result in scores.items():
    axis.plot(*zip(*result["coverage"], strict=True), "o-", label=name)
axis.set_xlabel("自动派出的比例")
axis.set_ylabel("其中正确的比例")
axis.legend()
plt.show()

# %% [markdown]
# ## 四、读错例
# 混淆最多的几对,附编号。先读再调:可能是标签错,可能是文本缺,也可能是规则要改。

# %%
pl.DataFrame(scores["自己的"]["confusions"]).select("label", "predicted", "rows", "ids")

# %% [markdown]
# ## 五、可能标错的标签
# 置信学习:若模型对另一类的把握,达到了那一类标注的平均水平,这一行就值得再看。为了演示,先故意改错 12 个标签。

# %%
frame = read_table(work / "训练.xlsx")
labels = frame["承办单位"].to_list()
rng = np.random.default_rng(1)
spoiled = rng.choice(len(labels), 12, replace=False)
for i in spoiled:
    labels[i] = rng.choice(sorted(kept - {labels[i]}))
frame.with_columns(pl.Series("承办单位", labels)).write_excel(work / "有错.xlsx")
noisy = train([work / "有错.xlsx"], work / "noisy", taxonomy=mine)
found = label_errors(noisy.out_of_fold["department"], noisy.targets["department"])
caught = len(set(found[:24].tolist()) & set(spoiled.tolist()))
print(f"疑错 {len(found)} 行;最可疑的 24 行里,有故意改错的 12 行中的 {caught} 行")

# %% [markdown]
# ## 六、下一批标哪些
# 模型最拿不准的先标;近重复的只挑一件。

# %%
unlabelled = [rows[i]["body"] for i in order[cut:]]
model = TfidfModel.load(str(work / "model"))
probabilities = model.predict_proba(unlabelled)["department"]
chosen = worth_labelling(probabilities, unlabelled, 50)
codes = model.taxonomy.codes("department")
best = np.argsort(-probabilities, axis=1)[:, :2]
pl.DataFrame(
    [
        {"编号": rows[order[cut + i]]["id"], "第一": codes[best[i, 0]], "第二": codes[best[i, 1]],
         "相差": round(float(probabilities[i, best[i, 0]] - probabilities[i, best[i, 1]]), 3)}
        for i in chosen[:8]
    ]
)  # fmt: skip

# %% [markdown]
# ## 七、保存与再加载
# 模型文件夹里没有可执行的东西:`model.json`、`arrays.safetensors`,以及模型卡 `MODEL_CARD.md`。

# %%
print(sorted(path.name for path in (work / "model").iterdir()))
print((work / "model" / "MODEL_CARD.md").read_text(encoding="utf-8")[:600], "…")
