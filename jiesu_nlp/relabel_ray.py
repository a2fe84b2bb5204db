"""Relabelling on Ray Data: one model an actor, on one machine or a cluster."""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jiesu_nlp.relabel import _Task
    from jiesu_nlp.relabel_parts import Part
    from jiesu_nlp.streams import Chunk

_AT_ONCE = 64
"""Chunks an actor that are handed to Ray together; what bounds the memory of its object store."""


class _Labeller:
    """An actor: it loads the model once, and labels chunk after chunk."""

    def __init__(self, task: "_Task") -> None:
        self._task = task

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        from jiesu_nlp.relabel import label_chunk

        return {"part": [label_chunk((chunk, self._task)) for chunk in batch["chunk"]]}


def label_on_ray(chunks: "Iterable[Chunk]", task: "_Task", jobs: int) -> "Iterator[Part]":
    """Parts of the chunks, in any order; on the cluster that RAY_ADDRESS names, else on this machine.

    Args:
        jobs: number of actors. A model's folder must be there on every machine.
    """
    import ray
    import ray.data

    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    ray.data.DataContext.get_current().enable_progress_bars = False
    rest = iter(chunks)
    while some := list(islice(rest, _AT_ONCE * jobs)):
        data = ray.data.from_items([{"chunk": chunk} for chunk in some], override_num_blocks=len(some))
        labelled = data.map_batches(
            _Labeller, fn_constructor_args=(task,), batch_size=1, compute=ray.data.ActorPoolStrategy(size=jobs)
        )
        for row in labelled.iter_rows():
            yield row["part"]
