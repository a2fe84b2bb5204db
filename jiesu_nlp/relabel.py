"""The relabelling job: tables of any length in, one labelled table out, on all cores.

Rows are labelled a chunk at a time, and each chunk becomes a part beside the output. A job that was
killed goes on from its parts when it is started again with the same inputs, model and settings; when
the last part is there, the parts are joined and moved to the output in one step.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from jiesu_nlp import __version__
from jiesu_nlp.errors import TableError
from jiesu_nlp.extras import need
from jiesu_nlp.models.store import PACKAGED, model_folder, read_meta
from jiesu_nlp.parallel import map_ahead
from jiesu_nlp.predict import Classification, Classifier
from jiesu_nlp.relabel_parts import JOB, Part, alone, clear, finished, read_counts, remove, write_file, write_whole
from jiesu_nlp.streams import Chunk, Row, columns_of, find_tables, join_parts, read_chunks, write_part
from jiesu_nlp.tables import Columns, guess_columns
from jiesu_nlp.text import join_fields

CHUNK_ROWS = 500
_HEADS = ("category", "department", "intent")
LABEL_COLUMNS = (
    *(f"jiesu_{head}{part}" for head in _HEADS for part in ("", "_name", "_probability")),
    "jiesu_assisting",
    "jiesu_handling",
    "jiesu_handling_line",
    "jiesu_recurrence",
    "jiesu_recurrence_known",
    "jiesu_needs_review",
)
REJECT_COLUMNS = ("jiesu_file", "jiesu_row", "jiesu_error", "jiesu_message")


@dataclass(frozen=True)
class _Task:
    """What every chunk of a job is labelled with; also what a resumed job must agree on."""

    columns: tuple[str, ...]
    text: tuple[str, ...]
    old: tuple[tuple[str, str], ...]
    ending: str
    model: str
    fingerprint: str


@dataclass
class Summary:
    """What a job did.

    Attributes:
        rows: labelled. rejected: not labelled, in the rejects file with the reason. review: labelled with a
            warning.
        labels: ``{head: {code: rows}}``.
        changed: ``{head: {old code: {new code: rows}}}`` against the columns of old labels; a cell that the
            taxonomy does not know stands as ``?``.
        out, rejects: the files; `rejects` is ``None`` where no row was rejected.
    """

    rows: int = 0
    rejected: int = 0
    review: int = 0
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    changed: dict[str, dict[str, Counter[str]]] = field(default_factory=dict)
    out: str = ""
    rejects: str | None = None

    def add(self, counts: dict[str, Any]) -> None:
        """Add the counts of a part."""
        self.rows += counts["rows"]
        self.rejected += counts["rejected"]
        self.review += counts["review"]
        for head, codes in counts["labels"].items():
            self.labels.setdefault(head, Counter()).update(codes)
        for head, table in counts["changed"].items():
            for old, codes in table.items():
                self.changed.setdefault(head, {}).setdefault(old, Counter()).update(codes)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form."""
        return dict(vars(self))


def relabel(
    inputs: Sequence[str | Path] | str | Path,
    out: str | Path,
    *,
    text: Sequence[str] = (),
    old: Sequence[str] = (),
    model: str | Path | None = None,
    jobs: int = 1,
    engine: str = "local",
    chunk_rows: int = CHUNK_ROWS,
    restart: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
) -> Summary:
    """Label every row of tables and write one table, its original columns and `LABEL_COLUMNS`.

    Rows keep their order. A row whose text cannot be classified, or that is no row of the table, goes to
    ``OUT.rejects`` with file, number and reason.

    Args:
        inputs: csv, tsv, xlsx, jsonl or parquet files, folders of them, globs.
        text: text columns, joined in this order; guessed by default.
        old: columns of old labels to compare with, ``head=column``; guessed by default.
        engine: ``local``, or ``ray`` for Ray Data on one machine or a cluster.
        restart: throw away what an earlier, other job left beside `out`.
        progress: called with the number of rows done so far.

    Raises:
        TableError: inputs cannot be read or do not fit together, or an unfinished job with other inputs
            or settings lies beside `out`.
    """
    target = Path(out)
    paths = find_tables([inputs] if isinstance(inputs, str | Path) else inputs)
    _check(target, paths, old, jobs, engine)
    columns = columns_of(paths)
    if taken := [name for name in columns if name in (*LABEL_COLUMNS, *REJECT_COLUMNS)]:
        raise TableError(f"the table has a column {taken[0]!r} already; it was labelled before, or rename it")
    chosen = guess_columns(columns, text, old)
    task = _task(columns, chosen, target, model_folder(model))
    work = target.with_name(target.name + ".partial")
    chunks = 0

    def todo(done: set[int]) -> Iterator[Chunk]:
        nonlocal chunks
        for chunk in read_chunks(paths, chunk_rows):
            chunks += 1
            if chunk.number not in done:
                yield chunk

    with alone(work):
        shutil.rmtree(finished(work), ignore_errors=True)  # of a process that was killed as it cleared up
        _begin(work, task, paths, chunk_rows, restart)
        done = {int(path.stem) for path in work.glob("*.counts")}
        rows = sum(read_counts(work, number)["all"] for number in done)
        progress(rows)
        for part in _label_all(todo(done), task, jobs, engine):
            write_whole(work, part)
            rows += part.counts["all"]
            progress(rows)
        return _finish(work, task, target, chunks)


def _check(target: Path, paths: Sequence[Path], old: Sequence[str], jobs: int, engine: str) -> None:
    if not target.absolute().parent.is_dir():
        raise TableError(f"{target.parent}: there is no such folder")
    if target.suffix.lower() not in (".csv", ".tsv", ".xlsx", ".jsonl", ".parquet"):
        raise TableError(f"{target.name}: the output must end in .csv, .tsv, .xlsx, .jsonl or .parquet")
    if target.resolve() in [path.resolve() for path in paths]:
        raise TableError(f"{target.name}: the output is one of the inputs; name another file")
    if engine not in ("local", "ray"):
        raise TableError(f"engine {engine!r} is neither 'local' nor 'ray'")
    if engine == "ray":
        need("ray", "ray", "pandas", "pyarrow")
    if jobs < 1:
        raise TableError(f"{jobs} processes cannot work; give 1 or more")
    if strange := [pair for pair in old if pair.partition("=")[0] not in _HEADS]:
        raise TableError(f"{strange[0]!r} is no head; write {' or '.join(f'{head}=COLUMN' for head in _HEADS)}")


def _task(columns: Sequence[str], chosen: Columns, target: Path, model: Path) -> _Task:
    read_meta(model)  # what is no model is said before anything is begun
    digest = hashlib.sha256(__version__.encode())
    # The default model answers for heads that another lacks.
    for folder in {model: None, model_folder(): None}:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            digest.update(str(file.relative_to(folder)).encode() + file.read_bytes())
    packaged = {model_folder(name): name for name in PACKAGED}  # by name, for a cluster may have it elsewhere
    old = tuple((head, column) for head, column in chosen.labels.items() if head in _HEADS)
    ending = target.suffix.lower()
    return _Task(
        tuple(columns), chosen.text, old, ending, packaged.get(model, str(model.absolute())), digest.hexdigest()[:16]
    )


def _begin(work: Path, task: _Task, paths: Sequence[Path], chunk_rows: int, restart: bool) -> None:
    """Note the job in the folder of parts, or check that what is there belongs to the same one."""
    files = [[str(p.absolute()), p.stat().st_size, p.stat().st_mtime_ns] for p in paths]
    job = json.dumps({"task": asdict(task) | {"model": ""}, "files": files, "chunk_rows": chunk_rows})
    note = work / JOB
    if restart or not note.exists():
        clear(work)
        write_file(note, job.encode())
    elif note.read_text(encoding="utf-8") != job:
        raise TableError(f"{work.name} is of an unfinished job with other inputs, model or settings; use --restart")


def _label_all(chunks: Iterable[Chunk], task: _Task, jobs: int, engine: str) -> Iterator[Part]:
    if engine == "local":
        yield from map_ahead(label_chunk, ((chunk, task) for chunk in chunks), jobs)
    else:
        from jiesu_nlp.relabel_ray import label_on_ray

        yield from label_on_ray(chunks, task, jobs)


@lru_cache(1)  # a server's model changes, and the old one is not needed again
def _classifier(model: str, fingerprint: str) -> Classifier:
    return Classifier.load(model)


def label_chunk(work: tuple[Chunk, _Task]) -> Part:
    """Label one chunk; runs in any process."""
    chunk, task = work
    classifier = _classifier(task.model, task.fingerprint)
    texts = [join_fields(*(_cell(row.get(name)) for name in task.text)) for row in chunk.rows]
    good: list[Row] = []
    rejects: list[Row] = []
    labels = {head: Counter[str]() for head in _HEADS}
    changed: dict[str, dict[str, Counter[str]]] = {head: {} for head, _ in task.old}
    review = 0
    for i, answer in enumerate(classifier.classify_batch(texts, explain=False)):
        row = chunk.rows[i]
        if i in chunk.broken or not isinstance(answer, Classification):
            error = ("BrokenRow", chunk.broken[i]) if i in chunk.broken else (answer.error, answer.message)  # type: ignore[union-attr]
            rejects.append(row | dict(zip(REJECT_COLUMNS, (chunk.file, chunk.first + i, *error), strict=True)))
            continue
        good.append(row | dict(zip(LABEL_COLUMNS, _values(answer), strict=True)))
        review += answer.needs_review
        for head in _HEADS:
            labels[head][getattr(answer, head).code] += 1
        for head, column in task.old:
            if cell := _cell(row.get(column)):
                before = changed[head].setdefault(classifier.taxonomy.find(head, cell) or "?", Counter())
                before[getattr(answer, head).code] += 1
    counts = {"all": len(texts), "rows": len(good), "rejected": len(rejects), "review": review}
    tables = {"labels": labels, "changed": changed}
    columns = (*task.columns, *LABEL_COLUMNS)
    return Part(
        chunk.number,
        write_part(good, columns, task.ending),
        write_part(rejects, (*task.columns, *REJECT_COLUMNS), ".csv"),
        counts | tables,
    )


def _values(answer: Classification) -> Iterator[Any]:
    for head in _HEADS:
        scored = getattr(answer, head)
        yield from (scored.code, scored.name, round(scored.probability, 4))
    yield " ".join(department.code for department in answer.assisting)
    yield from (answer.handling.code, answer.handling.line)
    yield from (round(answer.recurrence.score, 4), round(answer.recurrence.score_known, 4))
    yield answer.needs_review


def _cell(value: Any) -> str:
    return "" if value is None else str(value).strip()


def _finish(work: Path, task: _Task, target: Path, chunks: int) -> Summary:
    numbers = sorted(int(path.stem) for path in work.glob("*.counts"))
    if numbers != list(range(chunks)):
        raise TableError(f"{work.name}: {chunks} parts were to be made, {len(numbers)} are there; run it again")
    summary = Summary(out=str(target))
    for number in numbers:
        summary.add(read_counts(work, number))
    draft, rejects = work / "joined", target.with_name(target.name + ".rejects")
    join_parts([work / f"{n:08}.rows" for n in numbers], (*task.columns, *LABEL_COLUMNS), draft, task.ending)
    if summary.rejected:
        columns = (*task.columns, *REJECT_COLUMNS)
        join_parts([work / f"{n:08}.rejects" for n in numbers], columns, work / "rejects", ".csv")
        (work / "rejects").replace(rejects)
        summary.rejects = str(rejects)
    else:
        rejects.unlink(missing_ok=True)
    draft.replace(target)
    remove(work)
    return summary
