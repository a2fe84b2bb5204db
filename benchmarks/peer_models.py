"""The peers of ``peers.py``: how each is trained on texts with a category, and how it answers.

Each is what a user would write from its library's documentation, with settings of common use. A peer is a pair
of functions: `fit(texts, labels, folder)` writes what it needs, `load(folder)` gives a function from texts to
labels.
"""

import json
import logging
import os
import pickle
import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np

Predict = Callable[[Sequence[str]], list[str]]
FIRST = "小区自来水管老化渗水,居民用水困难,反映多次没人管"
ENCODER = Path(__file__).parent.parent / "encoders" / "compact"


def _cut(text: str) -> list[str]:
    import jieba

    return jieba.lcut(text)


def fit_naive(texts: Sequence[str], labels: Sequence[str], folder: Path) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.svm import LinearSVC

    vectoriser = TfidfVectorizer(tokenizer=_cut, token_pattern=None, sublinear_tf=True, min_df=2)
    _save(folder, (vectoriser, LinearSVC().fit(vectoriser.fit_transform(texts), labels)))


def load_naive(folder: Path) -> Predict:
    import jieba

    jieba.setLogLevel(logging.ERROR)
    return load_hashing(folder)


def fit_hashing(texts: Sequence[str], labels: Sequence[str], folder: Path) -> None:
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.svm import LinearSVC

    vectoriser = HashingVectorizer(analyzer="char", ngram_range=(1, 3), n_features=2**18)
    _save(folder, (vectoriser, LinearSVC().fit(vectoriser.transform(texts), labels)))


def load_hashing(folder: Path) -> Predict:
    import sklearn.feature_extraction.text
    import sklearn.svm  # noqa: F401

    vectoriser, machine = pickle.loads((folder / "model.pickle").read_bytes())
    return lambda texts: machine.predict(vectoriser.transform(texts)).tolist()


def _save(folder: Path, model: object) -> None:
    (folder / "model.pickle").write_bytes(pickle.dumps(model))


def _characters(text: str) -> str:
    return " ".join("".join(text.split()))


def fit_fasttext(texts: Sequence[str], labels: Sequence[str], folder: Path) -> None:
    import fasttext

    lines = [f"__label__{label} {_characters(text)}" for text, label in zip(texts, labels, strict=True)]
    (folder / "train.txt").write_text("\n".join(lines), encoding="utf-8")
    model = fasttext.train_supervised(
        str(folder / "train.txt"), epoch=25, lr=0.5, wordNgrams=3, dim=100, bucket=200_000, thread=1, seed=0, verbose=0
    )
    model.save_model(str(folder / "model.bin"))
    (folder / "train.txt").unlink()


def load_fasttext(folder: Path) -> Predict:
    import fasttext

    model = fasttext.load_model(str(folder / "model.bin"))
    # The binding itself: its wrapper asks numpy for something that numpy 2 refuses.
    return lambda texts: [
        model.f.predict(_characters(t), 1, 0.0, "strict")[0][1].removeprefix("__label__") for t in texts
    ]


def fit_static(texts: Sequence[str], labels: Sequence[str], folder: Path) -> None:
    """Model2vec's recipe with our encoder: each token's output alone, reduced, weighed by its rarity, averaged."""
    import torch
    from sklearn.linear_model import LogisticRegression
    from transformers import AutoModel, AutoTokenizer

    tokenizer, encoder = AutoTokenizer.from_pretrained(ENCODER), AutoModel.from_pretrained(ENCODER).float().eval()
    ids = torch.arange(len(tokenizer)).unsqueeze(1)
    first, last = tokenizer("")["input_ids"]
    framed = torch.cat([torch.full_like(ids, first), ids, torch.full_like(ids, last)], dim=1)
    with torch.no_grad():
        outputs = torch.cat([encoder(some).last_hidden_state.mean(dim=1) for some in framed.split(512)]).numpy()
    centred = outputs - outputs.mean(axis=0)
    reduced = centred @ np.linalg.svd(centred, full_matrices=False)[2][:256].T
    counts = np.bincount(np.concatenate([tokenizer(text)["input_ids"] for text in texts]), minlength=len(tokenizer))
    frequency = (counts + 1) / (counts.sum() + len(counts))
    vectors = (reduced * (1e-3 / (1e-3 + frequency))[:, None]).astype(np.float32)
    np.save(folder / "vectors.npy", vectors)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    _save(folder, LogisticRegression(C=10, max_iter=500).fit(_means(folder, vectors)(texts), labels))


def _means(folder: Path, vectors: np.ndarray) -> Callable[[Sequence[str]], np.ndarray]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def means(texts: Sequence[str]) -> np.ndarray:
        encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        found = np.array([vectors[e.ids].mean(axis=0) if e.ids else vectors[0] * 0 for e in encodings])
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-9)

    return means


def load_static(folder: Path) -> Predict:
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # one core means one
    machine = pickle.loads((folder / "model.pickle").read_bytes())
    means = _means(folder, np.load(folder / "vectors.npy"))
    return lambda texts: machine.predict(means(texts)).tolist()


def load_transformers(folder: Path) -> Predict:
    """Our encoder, in float32, under a head that nobody trained: for speed alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

    torch.set_num_threads(1)
    model = AutoModelForSequenceClassification.from_pretrained(ENCODER, num_labels=13).float().eval()
    classify = pipeline("text-classification", model=model, tokenizer=AutoTokenizer.from_pretrained(ENCODER), device=-1)
    return lambda texts: [one["label"] for one in classify(list(texts), batch_size=32, truncation=True)]


def load_labels(folder: Path) -> Predict:
    """Ours, the probabilities of all four heads and nothing else."""
    from jiesu_nlp.models.load import load_model

    model = load_model(folder)
    codes = np.array(model.taxonomy.codes("category"))
    parts = range(0, 10**9, 256)

    def predict(texts: Sequence[str]) -> list[str]:
        batches = [texts[at : at + 256] for at in parts[: -(-len(texts) // 256)]]
        return [code for batch in batches for code in codes[model.predict_proba(batch)["category"].argmax(axis=1)]]

    return predict


def load_answers(folder: Path) -> Predict:
    """Ours, whole answers: labels, dispatch, evidence."""
    from jiesu_nlp import Classifier

    classifier = Classifier.load(folder)
    return lambda texts: [answer.category.code for answer in classifier.classify_batch(texts, explain=False)]


def load_explained(folder: Path) -> Predict:
    """Ours, whole answers with the words that spoke for them."""
    from jiesu_nlp import Classifier

    classifier = Classifier.load(folder)
    return lambda texts: [answer.category.code for answer in classifier.classify_batch(texts)]


@dataclass(frozen=True)
class Peer:
    title: str
    load: Callable[[Path], Predict]
    fit: Callable[[Sequence[str], Sequence[str], Path], None] | None = None
    folder: str = ""
    """Of another peer that it shares what was trained with."""
    texts: int = 1000
    """Messages a round; the slow ones read fewer."""


PEERS = {
    "naive": Peer("jieba, TfidfVectorizer, LinearSVC", load_naive, fit_naive),
    "hashing": Peer("HashingVectorizer, LinearSVC", load_hashing, fit_hashing),
    "fasttext": Peer("fastText on characters", load_fasttext, fit_fasttext),
    "static": Peer("static embeddings", load_static, fit_static),
    "transformers": Peer("transformers, float32", load_transformers, texts=32),
    "labels": Peer("ours, four heads", load_labels, folder="default"),
    "answers": Peer("ours, whole answers", load_answers, folder="default"),
    "explained": Peer("ours, answers with words", load_explained, folder="default"),
    "accurate": Peer("ours, accurate, four heads", load_labels, folder="accurate", texts=64),
}


def main() -> None:
    """Load a peer, answer once, then read what one is told to; for ``peers.py``, which measures from outside."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints does not come between the answers
    work, peer = Path(sys.argv[1]), PEERS[sys.argv[2]]
    predict = peer.load(work / (peer.folder or sys.argv[2]))
    predict([FIRST])
    print("{}", file=out, flush=True)
    messages, held = (json.loads((work / f"{name}.json").read_text()) for name in ("messages", "held"))
    for line in sys.stdin:
        order = json.loads(line)
        texts = messages[order.get("from", 0) : order.get("to", 0)]
        answer: dict[str, object] = {"labels": predict(held)} if "held" in order else {}
        begin = time.perf_counter()
        if order.get("single"):
            answer["single"] = median(_seconds(predict, text) for text in texts)
        elif texts:
            predict(texts)
        answer["seconds"] = time.perf_counter() - begin
        peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        answer["peak"] = int(peak[1]) / 1024 if peak else float("nan")
        print(json.dumps(answer), file=out, flush=True)


def _seconds(predict: Predict, text: str) -> float:
    begin = time.perf_counter()
    predict([text])
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
