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
# # 预训练、微调一个中文编码器,与 TF-IDF 合一
#
# 先用无标签的工单预训练一个小编码器(整词掩码),再用有标签的微调,导出 int8,与 TF-IDF 合成一个模型,看合起来值不值。
# 全程在 CPU 上几分钟:编码器只有两层,语料只有 `data/samples` 里编写的诉求,所以它学不到多少,这里看的是步骤。
# 真实的规模与数字见 `docs/choosing-a-model.md`。需要 `pip install 'jiesu_nlp[bert]'`。

# %%
import json
import logging
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import polars as pl

from jiesu_nlp import Classifier
from jiesu_nlp.corpus import read_source
from jiesu_nlp.models.fit_bert import FineTuneConfig
from jiesu_nlp.models.load import load_model
from jiesu_nlp.models.wordpiece import Reading
from jiesu_nlp.pretrain import PretrainConfig, pretrain
from jiesu_nlp.train import train

warnings.filterwarnings("ignore", "IProgress not found")  # the runs report in numbers
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # the first font that is there serves
plt.rcParams["font.sans-serif"] = ["Noto Sans CJK SC", "WenQuanYi Zen Hei", "PingFang SC", "Microsoft YaHei", "SimHei"]
plt.rcParams["figure.dpi"] = 80
pl.Config.set_tbl_rows(20).set_tbl_width_chars(120)

samples = Path("data/samples")
samples = samples if samples.exists() else Path("..") / samples
work = Path(tempfile.mkdtemp())

# %% [markdown]
# ## 预训练
#
# 语料可以是每行一篇的 .txt,也可以是表;`文件*4` 表示读四遍,自己的工单应当比别的文字多读几遍。
# 命令行写法:`jiesu pretrain '工单.parquet*4' 法规.txt -o 编码器`。

# %%
corpus = [read_source(f"{path}*2") for path in sorted(samples.glob("*.jsonl"))]
small = PretrainConfig(layers=2, width=128, heads=2, length=128, batch=16, steps=200)
report = pretrain(corpus, work / "encoder", config=small)
print(
    f"{report['parameters'] / 1e6:.2f} 百万参数,词表 {len(json.loads((work / 'encoder/tokenizer.json').read_text())['model']['vocab'])} 项"
)

curve = pl.DataFrame([entry for entry in report["losses"] if "loss" in entry])
held = pl.DataFrame([entry for entry in report["losses"] if "eval_loss" in entry])
figure, axis = plt.subplots(figsize=(6, 3))
axis.plot(curve["step"], curve["loss"], label="训练")
axis.plot(held["step"], held["eval_loss"], "o-", label="留出")
axis.set(xlabel="步", ylabel="掩码词的损失", title="预训练")
axis.legend()
plt.show()

# %% [markdown]
# ## 微调,并与 TF-IDF 合一
#
# `kind="bert"` 只要编码器,`kind="blend"` 两者合一:权重在两者都没见过的行上定,同时就校准了。
# 长文读头尾(`windows=1`),或分几段读(`windows=2` …)。

# %%
tables = [
    samples / f"{name}.jsonl" for name in ("water", "tax", "edu", "metro", "housing", "police", "health", "market")
]
rows = [json.loads(line) for table in tables for line in table.read_text(encoding="utf-8").splitlines()]
frame = pl.DataFrame([{"id": r["id"], "title": r["title"], "body": r["body"], "部门": r["department"]} for r in rows])
frame.filter(pl.len().over("部门") > 1).write_ndjson(work / "工单.jsonl")

config = FineTuneConfig(base=str(work / "encoder"), epochs=5, rate=1e-3, reading=Reading(length=128))
trained = train([work / "工单.jsonl"], work / "model", labels=["department=部门"], kind="blend", bert=config)
model = load_model(work / "model")
how = model.meta["fit"]
figures = {**how["parts"], "blend": trained.metrics}
pl.DataFrame(
    [
        {"模型": name, **{k: figures[name]["department"][k] for k in ("macro_f1", "top1", "top3", "ece")}}
        for name in figures
    ]
)

# %%
passes = pl.DataFrame([entry for entry in how["curve"] if "macro_f1" in entry])
figure, axis = plt.subplots(figsize=(6, 3))
axis.plot(passes["epoch"], passes["macro_f1"], "o-")
axis.set(xlabel="遍", ylabel="留出行的宏平均 F1", title="微调")
plt.show()

# %% [markdown]
# ## int8 损失了多少,文件有多大
#
# 预测只用 tokenizers 与随库编译的部分,不用 torch。

# %%
print(how["int8"]["department"])
print({path.name: f"{path.stat().st_size / 1e6:.2f} MB" for path in sorted((work / "model" / "bert").iterdir())})
print("合成的权重(TF-IDF,编码器):", how["weights"]["department"])

# %% [markdown]
# ## 用起来
#
# 与别的模型一样:`Classifier`、`jiesu classify | evaluate | relabel | serve --model 文件夹`。没训练的头由自带模型回答。

# %%
answer = Classifier.load(work / "model").classify("小区自来水管老化渗水,居民用水困难,反映多次没人管")
print(answer.department.name, round(answer.department.probability, 3))
print([(word.word, round(word.weight, 3)) for word in answer.explanation if word.head == "department"][:6])

# %% [markdown]
# ## 蒸馏
#
# 教师(这里是上面的合成模型)给无标签的工单打上概率,学生学这些概率。教师与学生没有共同的错处时才有益,要在留出行上看。

# %%
student = train(
    [work / "工单.jsonl"],
    work / "student",
    labels=["department=部门"],
    kind="bert",
    bert=config,
    teacher=model,
    unlabelled=[samples / f"{name}.jsonl" for name in ("water-2", "tax-2", "edu-2", "housing-2")],
)
print("教了", load_model(work / "student").meta["fit"]["taught"], "件;学生:", student.metrics["department"])
