"""Fine-tuning an encoder: one network, a linear map to the codes of all heads, labels that may be missing.

What a text is judged by is the mean over its tokens, so head weights act on tokens and a word's
contribution stays exact (see `bert`). What is learned of which row is `task`'s.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jiesu_nlp.errors import ModelFormatError
from jiesu_nlp.metrics import macro_f1
from jiesu_nlp.models.base import IntArray, columns
from jiesu_nlp.models.quantise import check_kind
from jiesu_nlp.models.task import Lesson, Task, prepare_lesson
from jiesu_nlp.models.torch_tools import digest, keep_memory, load_base, run_trainer, trainer_arguments
from jiesu_nlp.models.wordpiece import Reading, framed, pad, readable

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
        dropout: share of the activations dropped, in the encoder and before the heads.
        hidden: share of the tokens that are hidden while learning, as in pre-training: a text is another each pass.
        held_out: share of the near-copy groups that development figures and calibration are taken on.
        loss: ``cross_entropy``, or ``focal`` (Lin et al. 2017, gamma 2), which leans on rows that are hard.
        class_weights: weigh a class by the inverse square root of its rows.
        keep: folder that the fine-tuned encoder is written to, without its heads: a base for other label sets.
    """

    base: str = ""
    reading: Reading = field(default_factory=Reading)
    epochs: int = 6
    patience: int = 2
    batch: int = 32
    rate: float = 0.0
    dropout: float = 0.1
    hidden: float = 0.15
    held_out: float = 0.1
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    class_weights: bool = False
    gradient_checkpointing: bool = False
    keep: str = ""
    seed: int = 0

    def settings(self) -> dict[str, Any]:
        """JSON-ready: what the outcome depends on, the base by its name. Where a copy goes is no part of it."""
        return {k: v for k, v in asdict(self).items() if k != "keep"} | {"base": Path(self.base).name}


@dataclass(frozen=True)
class Fitted:
    """What a run made.

    Attributes:
        network: the torch module, ids and mask to logits of every token. tokenizer: ``tokenizer.json``.
        held: rows that it has not seen, for development. taught: number of rows that a teacher labelled.
        curve: figures a pass.
    """

    network: Any
    tokenizer: bytes
    held: IntArray
    taught: int
    curve: list[dict[str, float]]


def fit(
    task: Task,
    config: FineTuneConfig,
    work: Path,
    progress: Callable[[str], None] = lambda message: None,
) -> Fitted:
    """Fine-tune. A run that was killed goes on from the checkpoints in `work`.

    Raises:
        ModelFormatError: the base cannot be loaded, or cannot read texts of that length.
        TrainingDataError: too few rows to hold any out, the teacher has other labels, or `work` is another run's.
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
    if torch.cuda.is_available() and getattr(encoder.config, "sliding_window", None):
        # Torch's own attention in bfloat16 has NaN gradients of a padded token that sees none of its neighbourhood.
        encoder.set_attn_implementation("eager")
    size = sum(p.numel() for p in encoder.parameters())
    check_kind(encoder)  # before an hour of work
    most = encoder.config.max_position_embeddings
    if config.reading.length > most:
        raise ModelFormatError(f"the encoder reads at most {most} tokens at a time; give a shorter --length")
    heads = columns(task.taxonomy)
    network = token_heads(encoder, task.width, config.dropout)
    lesson = prepare_lesson(task, config.held_out, config.class_weights, config.seed)
    train, held = lesson.train, lesson.held
    progress(f"{len(train)} rows to learn from, {len(held)} held out; {size / 1e6:.1f} million parameters")
    core = tokenizer.backend_tokenizer
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    data = Dataset.from_dict({"pieces": _pieces(task.texts, core, config.reading, special)})
    data = data.add_column("row", np.arange(len(task.texts)))
    data = data.add_column("length", [sum(map(len, pieces)) for pieces in data["pieces"]])
    arguments = trainer_arguments(
        work,
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch,
        per_device_eval_batch_size=2 * config.batch,
        learning_rate=config.rate or (3e-4 if size < _COMPACT else 3e-5),
        warmup_steps=max(1, len(train) // config.batch // 2),
        seed=config.seed,
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
    trainer = _trainer(config, heads, tokenizer)(
        model=network,
        args=arguments,
        data_collator=partial(_collate, padding=tokenizer.pad_token_id, lesson=lesson),
        train_dataset=data.select(train),
        eval_dataset=data.select(held),
        compute_metrics=partial(_development_figures, targets=task.targets, heads=heads),
        callbacks=[EarlyStoppingCallback(config.patience)],
    )
    job = {
        "config": config.settings() | {"base": config.base},
        "lesson": lesson.fingerprint,
        "texts": digest(task.texts),
    }
    run_trainer(trainer, work, job, progress)
    curve = [
        {name.removeprefix("eval_"): round(float(value), 4) for name, value in entry.items() if _kept(name)}
        for entry in trainer.state.log_history
    ]
    network = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)  # without its autocast
    if config.keep:
        halves = {name: tensor.half() for name, tensor in network.encoder.state_dict().items()}
        network.encoder.save_pretrained(config.keep, state_dict=halves)
        tokenizer.save_pretrained(config.keep)
    return Fitted(network.eval(), core.to_str().encode(), held, lesson.taught, [e for e in curve if len(e) > 1])


def _kept(name: str) -> bool:
    return name in ("epoch", "loss", "eval_loss") or name.startswith("eval_macro_f1")


def _without_pooler(base: str) -> dict[str, bool]:
    """BERT's pooler is not used; other architectures do not know the word."""
    from transformers import AutoConfig

    try:
        kind = AutoConfig.from_pretrained(base, trust_remote_code=False).model_type
    except (OSError, ValueError):
        return {}  # load_base says what is wrong
    return {"add_pooling_layer": False} if kind in ("bert", "roberta", "ernie", "xlm-roberta") else {}


def token_heads(encoder: Any, width: int, dropout: float) -> Any:
    """A torch module: ids and mask, both (n, t), to logits (n, t, width) of every token."""
    import torch

    class TokenHeads(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder
            self.dropout = torch.nn.Dropout(dropout)
            for module in encoder.modules():
                if isinstance(module, torch.nn.Dropout):  # an encoder from scratch was pre-trained without
                    module.p = dropout
            self.heads = torch.nn.Linear(encoder.config.hidden_size, width)

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            states = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            return self.heads(self.dropout(states))

    return TokenHeads()


def _pieces(texts: Sequence[str], core: Any, reading: Reading, special: tuple[int, int]) -> list[list[list[int]]]:
    encodings = core.encode_batch([readable(text) for text in texts], add_special_tokens=False)
    return [framed(encoding.ids, reading.pieces(len(encoding.ids)), *special) for encoding in encodings]


def _collate(rows: Sequence[Mapping[str, Any]], padding: int, lesson: Lesson) -> dict[str, Any]:
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
        "soft": torch.from_numpy(lesson.soft[number]),
        "strength": torch.from_numpy(lesson.strength[number]),
        "row": torch.from_numpy(number),
    }


def _trainer(config: FineTuneConfig, heads: Mapping[str, slice], tokenizer: Any) -> Any:
    import torch
    from transformers import Trainer

    special = torch.tensor(tokenizer.all_special_ids)

    class HeadsTrainer(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            logits = self.logits(model, inputs)
            value = _loss(logits, inputs["soft"], inputs["strength"], heads, config.loss)
            return (value, {"logits": logits}) if return_outputs else value

        def logits(self, model: Any, inputs: Any) -> Any:
            """Mean over the tokens of all pieces of a text, shape (n, codes of all heads)."""
            ids = inputs["input_ids"]
            if model.training and config.hidden and tokenizer.mask_token_id is not None:
                hidden = torch.rand(ids.shape, device=ids.device) < config.hidden
                hidden &= ~torch.isin(ids, special.to(ids.device))
                ids = ids.masked_fill(hidden, tokenizer.mask_token_id)
            with self.accelerator.autocast():
                tokens = model(ids, inputs["attention_mask"])
            mask = inputs["attention_mask"].unsqueeze(-1)
            n = len(inputs["row"])
            total = torch.zeros(n, tokens.shape[-1], device=tokens.device)
            total = total.index_add(0, inputs["owner"], (tokens.float() * mask).sum(1))
            length = torch.zeros(n, 1, device=tokens.device)
            return total / length.index_add(0, inputs["owner"], mask.sum(1).float())

    return HeadsTrainer


def _loss(logits: Any, soft: Any, strength: Any, heads: Mapping[str, slice], kind: str) -> Any:
    """Mean over the texts of the sum over their heads of the (focal) cross-entropy."""
    import torch

    total = torch.zeros((), device=logits.device)
    for of in heads.values():
        log_p = logits[:, of].log_softmax(1)
        if kind == "focal":
            log_p = log_p * (1 - log_p.exp()) ** 2
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
