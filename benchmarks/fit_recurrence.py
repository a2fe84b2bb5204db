"""Fit data/labels/recurrence_weights.csv on tickets in time order, and print what they are worth.

    python benchmarks/fit_recurrence.py            # fit, print held-out figures, write the table
    python benchmarks/fit_recurrence.py --rivers later_tickets.jsonl   # AUROC on tickets that follow

`again` (another ticket about the place within 30 days) is fitted on river tickets and on the places of
one city's messages; the weights of history and class on the annotated complaints, their text scores
out-of-fold. Each ticket sees only what came in, and was answered, before its own time.
"""

import argparse
import csv
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from train_default import DATA, ROOT, load, rows

from jiesu_nlp.examples import check, scheme_of
from jiesu_nlp.history import History, Ticket
from jiesu_nlp.matter import read_matter
from jiesu_nlp.models.fit_tfidf import fit
from jiesu_nlp.neardup import near_duplicate_groups
from jiesu_nlp.places import own_place
from jiesu_nlp.recurrence import HORIZON_DAYS, PAST_FEATURES, activity, fit_text, look_back, past_features
from jiesu_nlp.tables import parse_time
from jiesu_nlp.text import join_fields

TABLE = ROOT / "data" / "labels" / "recurrence_weights.csv"
NO_PLACE = "无"


Visit = tuple[datetime, str]
"""When a ticket about a place came in, and the place."""


def river_visits(paths: list[Path]) -> list[Visit]:
    tickets = [(parse_time(row["time"]), row["place"]) for path in paths for row in rows(path)]
    return sorted((time, place) for time, place in tickets if place != NO_PLACE)


def city_visits() -> list[Visit]:
    """The place that each message of one city's stream names most often."""
    found = []
    for row in rows(DATA / "messages.jsonl"):
        if row["source"] == "attachment3":
            places = read_matter(join_fields(row["title"], row["body"])).places
            found += [(parse_time(row["time"]), place) for place in places[:1]]
    return sorted(found)


def observe(visits: list[Visit]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Activity (n,), again (n,), plain count of past tickets (n,), days since 1970 (n,)."""
    history = History("sqlite://")
    history.append(Ticket(str(i), place, time, place) for i, (time, place) in enumerate(visits))
    day = np.array([time.timestamp() / 86400 for time, _ in visits])
    active, again, counts = [], [], []
    for i, (time, place) in enumerate(visits):
        ages = day[i] - history.place_times(own_place(place), time) / 86400
        active.append(activity(ages))
        counts.append(len(ages))
        later = zip(day[i + 1 :], visits[i + 1 :], strict=True)
        again.append(any(p == place and d <= day[i] + HORIZON_DAYS for d, (_, p) in later))
    return np.array(active), np.array(again), np.array(counts), day


def report_again(later: Path | None) -> tuple[float, float]:
    """Print how well activity foretells, year by year; return intercept and weight."""
    known = DATA / "river_tickets.jsonl"
    parts = {"rivers": observe(river_visits([known, *([later] if later else [])])), "city": observe(city_visits())}
    x, y = [], []
    for name, (active, again, count, day) in parts.items():
        complete = day <= day.max() - HORIZON_DAYS
        for year in range(2015, 2022):
            start = datetime(year, 1, 1, tzinfo=UTC).timestamp() / 86400
            rows_ = complete & (day >= start) & (day < start + 365)
            if rows_.sum() >= 50:
                ours, plain = (roc_auc_score(again[rows_], score[rows_]) for score in (active, count))
                print(
                    f"{name} {year}: {rows_.sum()} tickets, again {again[rows_].mean():.2f}; "
                    f"AUROC {ours:.4f}, plain count {plain:.4f}"
                )
        x.append(active[complete])
        y.append(again[complete])
    model = LogisticRegression().fit(np.concatenate(x)[:, None], np.concatenate(y))
    for name, active, again in zip(parts, x, y, strict=True):
        print(f"{name}: predicted {model.predict_proba(active[:, None])[:, 1].mean():.3f}, seen {again.mean():.3f}")
    return float(model.intercept_[0]), float(model.coef_[0, 0])


def stream() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of the annotated complaints in time order: levels from the text (n, 3), past features (n, 3), labels."""
    examples = load()
    scheme = scheme_of(examples, None)
    targets, _ = check(examples, scheme)
    groups = near_duplicate_groups(examples.texts)
    weight = np.array(examples.weight, np.float32)
    _, out_of_fold = fit(examples.texts, targets, scheme, groups, weight, jobs=2)
    _, levels = fit_text(out_of_fold["recurrence"], examples.texts, targets["recurrence"], weight, groups)
    at = {
        key: i
        for i, (key, source) in enumerate(zip(examples.ids, examples.source, strict=True))
        if source == "complaints"
    }
    codes = {head: scheme.codes(head) for head in ("category", "department")}
    history = History("sqlite://")
    tickets = []
    for row in rows(DATA / "messages.jsonl"):
        i = at.get(row["id"])
        labels = {h: codes[h][targets[h][i]] if i is not None and targets[h][i] >= 0 else None for h in codes}
        tickets.append(
            Ticket(row["id"], join_fields(row["title"], row["body"]), parse_time(row["time"]), None, **labels)
        )
    history.append(tickets)
    stored = {ticket.id for ticket in tickets}
    for row in rows(DATA / "replies.jsonl"):
        if row["id"] in stored and row.get("reply_time"):
            history.answer(row["id"], "answered", parse_time(row["reply_time"]))
    used = sorted((t for t in tickets if t.id in at), key=lambda t: t.time)
    past = [past_features(look_back(history, read_matter(t.text), t.time, t.category, t.department)) for t in used]
    place = [at[t.id] for t in used]
    return levels[place], np.array(past), targets["recurrence"][place]


def shifted(levels: np.ndarray, past: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """`recurrence.with_past` of many rows at once, by weights that are still being fitted."""
    odds = levels * np.exp(np.outer(past @ weights, [0.0, 1.0, 1.0]))
    return odds / odds.sum(axis=1, keepdims=True)


def fit_history(levels: np.ndarray, past: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Weights, not below zero, that shift the odds of levels 1 and 2 together."""

    def loss(weights: np.ndarray) -> float:
        p = shifted(levels, past, weights)
        return float(-np.log(p[np.arange(len(p)), target]).mean() + 1e-4 * weights @ weights)

    return minimize(loss, np.full(past.shape[1], 0.1), bounds=[(0, None)] * past.shape[1]).x


def report_history() -> np.ndarray:
    levels, past, target = stream()
    cut = len(levels) * 2 // 3
    weights = fit_history(levels[:cut], past[:cut], target[:cut])
    p = shifted(levels, past, weights)
    print(f"history: {(past[:, 0] > 0).mean():.2f} of {len(past)} have past tickets, {past[:, 1].mean():.3f} came back")
    for name, rows_ in (("first two thirds", slice(0, cut)), ("last third", slice(cut, None))):
        for level in (1, 2):
            truth = target[rows_] >= level
            text, both = (roc_auc_score(truth, q[rows_, level:].sum(axis=1)) for q in (levels, p))
            print(f"  {name}, label >= {level}: AUROC text {text:.4f}, with history {both:.4f}")
    print("  weights on the first two thirds", dict(zip(PAST_FEATURES, weights.round(3), strict=True)))
    return fit_history(levels, past, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rivers", type=Path, help="later river tickets, to measure on; writes nothing")
    arguments = parser.parse_args()
    intercept, weight = report_again(arguments.rivers)
    if arguments.rivers:
        return
    history = report_history()
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", "feature", "weight"])
        writer.writerows(["history", name, f"{w:.4f}"] for name, w in zip(PAST_FEATURES, history, strict=True))
        writer.writerow(["again", "intercept", f"{intercept:.4f}"])
        writer.writerow(["again", "activity", f"{weight:.4f}"])
    print(TABLE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
