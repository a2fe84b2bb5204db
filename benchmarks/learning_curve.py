"""Learning curve of the default recipe: figures on a fixed fifth of the real complaints.

    python benchmarks/learning_curve.py

The fifth is cut by near-copy group; the other sources and a growing share of the remaining
complaints are trained on.
"""

import os

import numpy as np
from train_default import load

from jiesu_nlp.examples import check, scheme_of
from jiesu_nlp.metrics import summarise
from jiesu_nlp.models.fit_tfidf import FitConfig, fit
from jiesu_nlp.neardup import near_duplicate_groups


def main() -> None:
    examples = load()
    scheme = scheme_of(examples, None)
    targets, _ = check(examples, scheme)
    groups = near_duplicate_groups(examples.texts)
    real = np.array(examples.source) == "complaints"
    draw = np.random.default_rng(0).random(groups.max() + 1)[groups]
    test = np.flatnonzero(real & (draw < 0.2))
    print("| complaints trained on | category F1 | top-1 | top-3 | department F1 | top-1 | top-3 |")
    print("|---|---|---|---|---|---|---|")
    for share in (0.0, 0.1, 0.25, 0.5, 1.0):
        chosen = np.flatnonzero(
            np.where(real, (draw >= 0.2) & (draw < 0.2 + 0.8 * share), ~np.isin(groups, groups[test]))
        )
        model, _ = fit(
            [examples.texts[i] for i in chosen],
            {head: target[chosen] for head, target in targets.items()},
            scheme,
            groups[chosen],
            np.array(examples.weight, np.float32)[chosen],
            config=FitConfig(folds=3),
            jobs=os.cpu_count() or 1,
        )
        probabilities = model.predict_proba([examples.texts[i] for i in test])
        cells = []
        for head in ("category", "department"):
            figures = summarise(probabilities[head], targets[head][test])
            cells += [f"{figures[name]:.3f}" for name in ("macro_f1", "top1", "top3")]
        print(f"| {int(real[chosen].sum())} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
