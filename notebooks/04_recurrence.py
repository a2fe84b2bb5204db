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
# # 未诉先办:这件事,本来能不能不等市民投诉就办好?
#
# 三方面的依据,各自看得见:**文中怎么说**(反映过、答复未办、持续、周期、很多人、老化),**历史怎么说**(同一地点同一事项的往期工单),
# **这一类怎么样**(同类别、同部门的事项多常回到老地方)。再往前一步:哪些事已经成了一类事(`hotspots`),下个月哪里可能再来(`forecast`)。
#
# 所用的 `data/demo_history.csv` 是编写的工单,地名是虚构的。换成自己的表,只改下一格的文件名。

# %%
import logging
from datetime import UTC, datetime
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

from jiesu_nlp import Classifier
from jiesu_nlp.forecast import forecast
from jiesu_nlp.history import History, Ticket
from jiesu_nlp.hotspots import hotspots
from jiesu_nlp.tables import cells_of, guess_columns, ids_of, parse_time, read_table, texts_of

plt.rcParams["font.sans-serif"] = ["Noto Sans CJK SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "SimHei"]
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # the first font that is there serves
plt.rcParams["axes.unicode_minus"] = False
plt.rcParams["figure.dpi"] = 80
pl.Config.set_tbl_rows(12).set_fmt_str_lengths(40).set_tbl_width_chars(140)

table = Path("data/demo_history.csv")
table = table if table.exists() else Path("..") / table

# %% [markdown]
# ## 一、文中怎么说
# 每个依据都有它在原文中的位置、种类和条例中的条款。没有历史库时,分数只凭文字,`is_prior` 为真。

# %%
classifier = Classifier.load()
text = "福星路半夜渣土车轰隆隆过,反映多次没人管,全楼都睡不着,这样已经两年了"
recurrence = classifier.classify(text).recurrence
print(f"P(≥1) = {recurrence.score:.2f}, P(=2) = {recurrence.score_known:.2f}, 先验 = {recurrence.is_prior}")
for e in recurrence.evidence:
    print(f"{e.start:>3}–{e.end:<3} {e.kind:<14} {e.text:<8} {e.basis}")

# %% [markdown]
# ## 二、历史怎么说
# 历史库只增不改:一个 SQLite 文件(或者 PostgreSQL 网址)。这里用内存中的一个。表里没有类别,由模型补上。

# %%
frame = read_table(table)
columns = guess_columns(frame.columns)
texts = texts_of(frame, columns)
answers = classifier.classify_batch(texts)
closed = cells_of(frame, columns.answered)
history = History("sqlite://")
history.append(
    Ticket(
        id=key,
        text=body,
        time=parse_time(time),
        category=answer.category.code,
        department=answer.department.code,
        outcome="已解决" if done else None,
        answered=parse_time(done) if done else None,
    )
    for key, body, time, answer, done in zip(
        ids_of(frame, columns), texts, cells_of(frame, columns.time), answers, closed, strict=True
    )
)
print(f"{len(history)} 件,最后一件 {history.last_time():%Y-%m-%d}")

# %%
now = datetime(2025, 12, 15, tzinfo=UTC)
for past in history.similar(text, before=now, top=5):
    print(
        f"{past.time:%Y-%m-%d} {past.id} 相似 {past.similarity:.2f} {past.outcome or '未答复':<6} 共同:{'、'.join(past.shared)}"
    )

known = classifier.classify(text, history=history, at=now).recurrence
print(
    f"\n一年内同一事项 {known.count} 件(月次 {known.month_count},年次 {known.year_count});"
    f"答复后又来:{known.came_back};30 天内此地再来的概率 {known.again:.2f}"
)
print(f"P(≥1):只看文字 {recurrence.score:.3f} → 加上历史 {known.score:.3f}")

# %% [markdown]
# 一件诉求只凭它**之前**已知的事来判断:时间靠后的工单、还没有的答复,都不参与。把同一件诉求放到不同的日子,就看到历史怎样积累。

# %%
days = pl.datetime_range(datetime(2023, 9, 1), datetime(2025, 12, 1), "1mo", time_zone="UTC", eager=True).to_list()
seen = [classifier.classify(text, history=history, at=day).recurrence for day in days]
figure, (left, right) = plt.subplots(1, 2, figsize=(11, 3.2))
left.step(days, [r.count for r in seen], where="post")
left.set_title("一年内同一事项的往期工单(件)")
right.plot(days, [r.again for r in seen], color="tab:red")
right.set_ylim(0, 1)
right.set_title("30 天内此地再来的概率")
figure.autofmt_xdate()
plt.show()

# %% [markdown]
# ## 三、从一件到一类:热点
# 同一地点同一事项的工单归为一组,按热度排序。热度 = Σ 0.5^(距窗口末日天数 / 半衰期) × √(不同日数 / 件数)。

# %%
hot = hotspots(history)
hot.select("rank", "heat", "tickets", "title", "category", "first", "last").head(12)

# %%
month_of = {row.id: datetime.fromtimestamp(row.time, UTC) for row in history.tickets()}
top = hot.head(8)
figure, axis = plt.subplots(figsize=(10, 4))
for i, row in enumerate(top.iter_rows(named=True)):
    axis.scatter([month_of[key] for key in row["ids"]], [i] * row["tickets"], s=14)
axis.set_yticks(range(len(top)), top["title"].to_list())
axis.invert_yaxis()
axis.set_title("最热的八组:每点一件工单")
plt.tight_layout()
plt.show()

# %% [markdown]
# ## 四、赶在下一件之前:预测
# 下个月,哪个地点的哪一类可能有诉求。回测逐月重来:只用当月之前的工单,与"去年同月有没有"相比。

# %%
ahead = forecast(history)
print(ahead.month)
ahead.table.head(10)

# %%
ahead.backtest

# %%
figure, axis = plt.subplots(figsize=(7, 3))
axis.plot(ahead.backtest["month"], ahead.backtest["auroc"], "o-", label="模型")
axis.plot(ahead.backtest["month"], ahead.backtest["auroc_naive"], "s--", label="去年同月")
axis.set_ylim(0.4, 1)
axis.set_ylabel("AUROC")
axis.legend()
axis.set_title("预测下月有无诉求,逐月回测")
plt.show()
