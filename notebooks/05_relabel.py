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
# # 给历史工单重新贴标签
#
# 整表、整个文件夹、几百万行:内存不随行数增长,用满各核,中断了再运行同一命令就从断处继续,结果与没有中断时逐字节相同。
# 命令行同样能做:`jiesu relabel 2024/*.csv 2025.xlsx 结果.parquet`。

# %%
import csv
import logging
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

from jiesu_nlp.relabel import relabel

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # the first font that is there serves
plt.rcParams["font.sans-serif"] = ["Noto Sans CJK SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "SimHei"]
plt.rcParams["figure.dpi"] = 80
pl.Config.set_tbl_rows(15).set_fmt_str_lengths(40).set_tbl_width_chars(150)

source = Path("data/demo_history.csv")
source = source if source.exists() else Path("..") / source
work = Path(tempfile.mkdtemp())

# %% [markdown]
# 两个年度的表,一个是 Excel 存出的 GB18030 csv;里面有一行空的,一行缺列。

# %%
with source.open(encoding="utf-8", newline="") as file:
    header, *rows = csv.reader(file)
for name, encoding, part in (("2023.csv", "utf-8", rows[:400]), ("2024.csv", "gb18030", rows[400:])):
    with (work / name).open("w", encoding=encoding, newline="") as file:
        csv.writer(file).writerows([header, *part])
with (work / "2024.csv").open("a", encoding="gb18030", newline="") as file:
    csv.writer(file).writerows([["X1", "2025-12-30 08:00", "", "", ""], ["X2", "缺列"]])

seen = []
summary = relabel(work / "20*.csv", work / "结果.parquet", progress=seen.append)
print(f"{summary.rows} 行已贴标签,{summary.rejected} 行不能分类,{summary.review} 行建议复核")

# %% [markdown]
# ## 中断与继续
# 做到一半按下 Ctrl-C(或者被杀掉),已完成的部分留在 `….partial`;再运行同一命令,只做剩下的。


# %%
def stop(done: int) -> None:
    if done >= 500:
        raise KeyboardInterrupt


try:
    relabel(work / "20*.csv", work / "又一次.csv", chunk_rows=100, progress=stop)
except KeyboardInterrupt:
    print("已中断:", sorted(path.name for path in work.iterdir() if "又一次" in path.name))
first = []
relabel(work / "20*.csv", work / "又一次.csv", chunk_rows=100, progress=first.append)
print(f"从第 {first[0]} 行继续,到第 {first[-1]} 行;留下:", sorted(p.name for p in work.iterdir() if "又一次" in p.name))

# %% [markdown]
# ## 结果
# 原有的列都在,后面加上标签列;不能分类的行在 `.rejects`,带着原因。

# %%
frame = pl.read_parquet(work / "结果.parquet")
frame.select(
    "工单编号", "主要内容", "jiesu_category_name", "jiesu_department_name", "jiesu_handling", "jiesu_recurrence"
).head(5)

# %%
pl.read_csv(work / "结果.parquet.rejects").select("工单编号", "jiesu_file", "jiesu_row", "jiesu_error")

# %%
counts = sorted(summary.labels["category"].items(), key=lambda item: item[1])
figure, axis = plt.subplots(figsize=(7, 3.6))
axis.barh([code for code, _ in counts], [n for _, n in counts])
axis.set_title("各类件数")
plt.tight_layout()
plt.show()

# %% [markdown]
# ## 与旧标签对照
# 表里原有部门列时,`old=["department=承办单位"]` 给出旧到新的对照。这里拿第一遍的结果当旧标签,再故意改动一部分。

# %%
old = frame.with_columns(
    pl.when(pl.int_range(pl.len()) % 20 == 0)
    .then(pl.lit("water"))
    .otherwise(pl.col("jiesu_department"))
    .alias("承办单位")
).select("工单编号", "主要内容", "承办单位")
old.write_csv(work / "旧.csv")
compared = relabel(work / "旧.csv", work / "新.csv", old=["department=承办单位"])
changed = [
    {"旧": before, "新": after, "件": n}
    for before, codes in compared.changed["department"].items()
    for after, n in codes.items()
    if before != after
]
pl.DataFrame(changed).sort("件", descending=True).head(8)
