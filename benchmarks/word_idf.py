"""Make data/labels/word_idf.csv: how rare each word is among complaints, for telling matters apart.

    python benchmarks/word_idf.py

Counted on the real messages (JIESU_DATA) and the written complaints, one text a near-copy group; a
word stands in the table if it occurs in at least three of them, so that none gives a ticket away.
"""

import csv
import math
from collections import Counter

import numpy as np
from train_default import DATA, ROOT, rows

from jiesu_nlp.models.fit_tfidf import MIN_TICKETS
from jiesu_nlp.neardup import near_duplicate_groups
from jiesu_nlp.segment import segment
from jiesu_nlp.text import join_fields, normalise


def main() -> None:
    paths = [DATA / "messages.jsonl", *sorted((ROOT / "data" / "samples").glob("*.jsonl"))]
    texts = [join_fields(row.get("title"), row["body"]) for path in paths for row in rows(path)]
    one_each = np.unique(near_duplicate_groups(texts), return_index=True)[1]
    counts = Counter(word for i in one_each for word in set(segment(normalise(texts[i]))))
    kept = sorted((word, n) for word, n in counts.items() if n >= MIN_TICKETS)
    with (ROOT / "data" / "labels" / "word_idf.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["word", "idf"])
        writer.writerows([word, f"{math.log(len(one_each) / n):.2f}"] for word, n in kept)
    print(f"{len(kept)} words of {len(one_each)} texts")


if __name__ == "__main__":
    main()
