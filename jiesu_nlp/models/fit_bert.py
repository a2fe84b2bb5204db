"""Fine-tuning an encoder: one network, a linear map to the codes of all heads, labels that may be missing.

What a text is judged by is the mean over its tokens, so head weights act on tokens and a word's
contribution stays exact (see `bert`). Weak rows weigh less, a missing label weighs nothing, and rows
with a teacher's probabilities learn those instead of a label.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jiesu_nlp.errors import TrainingDataError
from jiesu_nlp.metrics import macro_f1
from jiesu_nlp.models.base import FloatArray, IntArray, columns
from jiesu_nlp.models.torch_tools import can_bf16, keep_memory, load_base, run_trainer, trainer_arguments
from jiesu_nlp.models.wordpiece import Reading, pad, readable
from jiesu_nlp.taxonomy import Taxonomy

_COMPACT = 40_000_000
"""Parameters below which an encoder takes the larger learning rate."""


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of a fine-tuning run.

    Attributes:
        base: the encoder: a folder (of ``jiesu pretrain``, or a downloaded one) or a name on the hub.
        reading: how long texts are read.
        epochs: most passes over the rows. patience: passes without a better development F1 until it stops.
        rate: highest learning rate; 0 for 3e-4 on a compact encoder and 3e-5 on a large one.
        held_out: share of the near-copy groups that development figures and calibration are taken on.
        loss: ``cross_entropy``, or ``focal`` (Lin et al. 2017, gamma 2), which leans on rows that are hard.
        class_weights: weigh a class by the inverse square root of its rows.
    """

    base: str = ""
    reading: Reading = field(default_factory=Reading)
    epochs: int = 6
    patience: int = 2
    batch: int = 32
    rate: float = 0.0
    dropout: float = 0.1
    held_out: float = 0.1
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    class_weights: bool = False
    gradient_checkpointing: bool = False
    seed: int = 0


@dataclass(frozen=True)
class Fitted:
    """What a run made.

    Attributes:
        network: the torch module, ids and mask to logits of every token. tokenizer: ``tokenizer.json``.
        held: rows that it has not seen, for development. curve: figures a pass.
    """

    network: Any
    tokenizer: bytes
    held: IntArray
    curve: list[dict[str, float]]


def fit(
    texts: Sequence[str],
    targets: Mapping[str, IntArray],
    taxonomy: Taxonomy,
    groups: IntArray,
    weights: FloatArray,
    config: FineTuneConfig,
    work: Path,
    taught: Mapping[int, FloatArray] | None = None,
    progress: Callable[[str], None] = lambda message: None,
) -> Fitted:
    """Fine-tune. A run that was killed goes on from the checkpoints in `work`.

    Args:
        targets: ``{head: (n,)}`` positions of the codes, -1 where a label is missing.
        groups: near-copy groups, shape (n,); a group is trained on or held out as a whole.
        taught: rows with a teacher's probabilities of all codes, heads side by side, shape (columns,).
            They are never held out, and neither is their group trained on where a labelled row of it is.

    Raises:
        ModelFormatError: the base cannot be loaded. TrainingDataError: too few rows to hold any out.
    """
    import torch
    from datasets import Dataset
    from transformers import AutoModel, EarlyStoppingCallback

    keep_memory()
    torch.manual_seed(config.seed)
    tokenizer, encoder = load_base(AutoModel, config.base, **_without_pooler(config.base))
    if config.gradient_checkpointing:
        # transformers 5 renames it on the way
        (getattr(encoder, "activation_checkpointing_enable", None) or encoder.gradient_checkpointing_enable)()
    size = sum(p.numel() for p in encoder.parameters())
    heads = columns(taxonomy)
    width = sum(map(len, taxonomy.heads.values()))
    network = _network(encoder, width, config.dropout)
    train, held = _hold_out(groups, weights, taught or {}, config)
    progress(f"{len(train)} rows to learn from, {len(held)} held out; {size / 1e6:.1f} million parameters")
    core = tokenizer.backend_tokenizer
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    soft, strength = _soft_targets(targets, heads, width, weights, taught or {}, train, config)
    data = Dataset.from_dict({"pieces": _pieces(texts, core, config.reading, special)})
    data = data.add_column("row", np.arange(len(texts)))
    data = data.add_column("length", [sum(map(len, pieces)) for pieces in data["pieces"]])
    arguments = trainer_arguments(
        work,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch,
        per_device_eval_batch_size=2 * config.batch,
        learning_rate=config.rate or (3e-4 if size < _COMPACT else 3e-5),
        warmup_steps=max(1, len(train) // config.batch // 2),
        lr_scheduler_type="linear",
        weight_decay=0.01,
        seed=config.seed,
        bf16=can_bf16(),
        train_sampling_strategy="group_by_length",
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_steps=max(1, len(train) // config.batch // 10),
        prediction_loss_only=False,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        greater_is_better=True,
        label_names=["row"],
    )
    trainer = _trainer(config.loss, heads)(
        model=network,
        args=arguments,
        data_collator=partial(_collate, padding=tokenizer.pad_token_id, soft=soft, strength=strength),
        train_dataset=data.select(train),
        eval_dataset=data.select(held),
        compute_metrics=partial(_development_figures, targets=targets, heads=heads),
        callbacks=[EarlyStoppingCallback(config.patience)],
    )
    job = {"config": asdict(config), "texts": len(texts), "groups": groups.tolist(), "columns": width}
    run_trainer(trainer, work, job, progress)
    curve = [
        {name.removeprefix("eval_"): round(float(value), 4) for name, value in entry.items() if _kept(name)}
        for entry in trainer.state.log_history
    ]
    network = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # without its autocast
    return Fitted(network.eval(), core.to_str().encode(), held, [entry for entry in curve if len(entry) > 1])


def _kept(name: str) -> bool:
    return name in ("epoch", "loss", "eval_loss") or name.startswith("eval_macro_f1")


def _without_pooler(base: str) -> dict[str, bool]:
    """BERT's pooler is not used; other architectures do not know the word."""
    from transformers import AutoConfig

    try:
        kind = AutoConfig.from_pretrained(base).model_type
    except (OSError, ValueError):
        return {}  # load_base says what is wrong
    return {"add_pooling_layer": False} if kind in ("bert", "roberta", "ernie", "xlm-roberta") else {}


def _network(encoder: Any, width: int, dropout: float) -> Any:
    import torch

    class TokenHeads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.dropout = torch.nn.Dropout(dropout)
            self.heads = torch.nn.Linear(encoder.config.hidden_size, width)

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return self.heads(self.dropout(states))

    return TokenHeads()


def _hold_out(
    groups: IntArray, weights: FloatArray, taught: Mapping[int, FloatArray], config: FineTuneConfig
) -> tuple[IntArray, IntArray]:
    """Rows to learn from and rows to hold out: labelled rows of full weight, in whole groups."""
    rows = np.arange(len(groups))
    labelled = (weights >= 1) & ~np.isin(rows, list(taught))
    candidates = np.unique(groups[labelled])
    number = round(config.held_out * len(candidates))
    if number < 1 or number == len(candidates):
        raise TrainingDataError(f"{len(candidates)} different texts are too few to hold any out; add labelled rows")
    chosen = np.random.default_rng(config.seed).choice(candidates, number, replace=False)
    aside = np.isin(groups, chosen)
    return np.flatnonzero(~aside), np.flatnonzero(aside & labelled)


def _pieces(texts: Sequence[str], core: Any, reading: Reading, special: tuple[int, int]) -> list[list[list[int]]]:
    encodings = core.encode_batch([readable(text) for text in texts], add_special_tokens=False)
    first, last = special
    return [
        [[first, *(ids[i] for i in part), last] for part in reading.pieces(len(ids))]
        for ids in (encoding.ids for encoding in encodings)
    ]


def _soft_targets(
    targets: Mapping[str, IntArray],
    heads: Mapping[str, slice],
    width: int,
    weights: FloatArray,
    taught: Mapping[int, FloatArray],
    train: IntArray,
    config: FineTuneConfig,
) -> tuple[FloatArray, FloatArray]:
    """Probabilities to learn, shape (n, columns), and how much each head of a row counts, of the same shape.

    A missing label is a row of zeros.
    """
    n = len(weights)
    soft, strength = np.zeros((n, width), np.float32), np.zeros((n, width), np.float32)
    for head, of in heads.items():
        known = np.flatnonzero(targets[head] >= 0)
        soft[known, of.start + targets[head][known]] = 1
        strength[known, of] = weights[known, None]
        if config.class_weights:
            counts = np.bincount(targets[head][np.intersect1d(known, train)], minlength=of.stop - of.start)
            rarity = 1 / np.sqrt(np.maximum(counts, 1))
            rarity *= counts.sum() / max((counts * rarity).sum(), 1e-9)  # the mean row weighs as before
            strength[known, of] *= rarity[targets[head][known], None].astype(np.float32)
    for row, probabilities in taught.items():
        soft[row] = probabilities
        strength[row] = weights[row]
    # Heads side by side are told apart in the loss by their columns.
    return soft, strength


def _collate(rows: Sequence[Mapping[str, Any]], padding: int, soft: FloatArray, strength: FloatArray) -> dict[str, Any]:
    """Pieces of all texts under each other, which text each belongs to, and what the texts should teach."""
    import torch

    pieces = [piece for row in rows for piece in row["pieces"]]
    ids, mask = pad(pieces, padding)
    owner = np.repeat(np.arange(len(rows)), [len(row["pieces"]) for row in rows])
    number = np.array([row["row"] for row in rows])
    return {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "owner": torch.from_numpy(owner),
        "soft": torch.from_numpy(soft[number]),
        "strength": torch.from_numpy(strength[number]),
        "row": torch.from_numpy(number),
    }


def _trainer(loss: str, heads: Mapping[str, slice]) -> Any:
    import torch
    from transformers import Trainer

    class HeadsTrainer(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            with self.accelerator.autocast():
                tokens = model(inputs["input_ids"], inputs["attention_mask"])
            mask = inputs["attention_mask"].unsqueeze(-1)
            n = len(inputs["row"])
            total = torch.zeros(n, tokens.shape[-1], device=tokens.device)
            total = total.index_add(0, inputs["owner"], (tokens.float() * mask).sum(1))
            length = torch.zeros(n, 1, device=tokens.device)
            logits = total / length.index_add(0, inputs["owner"], mask.sum(1).float())
            value = _loss(logits, inputs["soft"], inputs["strength"], heads, loss)
            return (value, {"logits": logits}) if return_outputs else value

    return HeadsTrainer


def _loss(logits: Any, soft: Any, strength: Any, heads: Mapping[str, slice], kind: str) -> Any:
    """Mean over the texts of the sum over their heads of the (focal) cross-entropy."""
    import torch

    total = torch.zeros((), device=logits.device)
    for of in heads.values():
        log_p = logits[:, of].log_softmax(1)
        if kind == "focal":
            log_p = log_p * (1 - log_p.detach().exp()) ** 2
        total = total - (strength[:, of] * soft[:, of] * log_p).sum()
    return total / len(logits)


def _development_figures(
    prediction: Any, targets: Mapping[str, IntArray], heads: Mapping[str, slice]
) -> dict[str, float]:
    """Macro-F1 of each head on the rows held out, and their mean, by which the best pass is chosen."""
    logits, rows = prediction.predictions, prediction.label_ids
    figures = {}
    for head, of in heads.items():
        target = targets[head][rows]
        known = target >= 0
        if known.any():
            figures[f"macro_f1_{head}"] = macro_f1(logits[known][:, of], target[known])
    return {"macro_f1": float(np.mean(list(figures.values()))), **figures}
