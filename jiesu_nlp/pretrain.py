"""The pre-training job: one's own unlabelled tickets in, an encoder folder out.

Masked language modelling over whole words: what is hidden and guessed is a word of jieba's, not a
character, for a character beside its neighbour is too easy. From scratch, with a vocabulary of the
corpus, or continued from any Chinese checkpoint. An encoder from scratch is a small ModernBERT: its rotary
positions and local attention need not be learned, and it gets somewhere in an hour on two cores, where a
BERT of the same size stayed at guessing by frequency (``benchmarks/RESULTS.md``). The folder is a Hugging
Face one, so that ``jiesu train --model bert --base FOLDER`` and any other program can read it.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from jiesu_nlp.corpus import IntArray, Source, blocks, mix
from jiesu_nlp.curve import learning_curve
from jiesu_nlp.errors import TrainingDataError
from jiesu_nlp.extras import need
from jiesu_nlp.models.torch_tools import digest, keep_memory, load_base, quiet, run_trainer, trainer_arguments
from jiesu_nlp.models.wordpiece import build_tokenizer


@dataclass(frozen=True)
class PretrainConfig:
    """Settings of a pre-training run.

    Attributes:
        layers, width, heads: shape of an encoder that is made from scratch.
        vocabulary: most entries of its vocabulary.
        length: tokens of a block. batch: blocks a step.
        steps: optimiser steps; 0 for `epochs` passes over the weighted corpus.
        rate: highest learning rate. masked: share of the words that are hidden.
        save_steps: steps between two checkpoints, from which a killed run goes on.
    """

    layers: int = 4
    width: int = 320
    heads: int = 5
    vocabulary: int = 8000
    length: int = 256
    batch: int = 32
    steps: int = 0
    epochs: float = 1.0
    rate: float = 1.5e-3
    masked: float = 0.2
    seed: int = 0
    save_steps: int = 500


def pretrain(
    corpus: Sequence[Source],
    out: str | Path,
    base: str | Path | None = None,
    config: PretrainConfig = PretrainConfig(),
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, Any]:
    """Pre-train an encoder and write it to `out`, with ``pretraining.json`` (settings and losses) and a plot.

    A run that was killed goes on from its last checkpoint when it is called again with the same `out`.

    Args:
        base: checkpoint to go on from, a folder or a hub name; from scratch when ``None``.

    Returns:
        What ``pretraining.json`` holds.

    Raises:
        MissingExtraError: torch or transformers is not installed.
        TrainingDataError: the corpus is too small, the width does not fit the heads, or `out` holds the
            checkpoints of another run.
    """
    need("bert", "torch", "transformers", "tokenizers")
    import torch
    from transformers import AutoModelForMaskedLM, ModernBertConfig, ModernBertForMaskedLM, PreTrainedTokenizerFast

    if config.width % (2 * config.heads):
        raise TrainingDataError(f"a width of {config.width} is no multiple of twice {config.heads} heads")
    keep_memory()
    torch.manual_seed(config.seed)
    folder = Path(out)
    if base is None:
        progress("vocabulary")
        core = build_tokenizer([text for source in corpus for text in source.texts], config.vocabulary)
        names = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
        tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, model_max_length=512, **names)
        special_ids = {f"{name}_token_id": core.token_to_id(f"[{name.upper()}]") for name in ("pad", "cls", "sep")}
        shape = ModernBertConfig(
            vocab_size=core.get_vocab_size(),
            hidden_size=config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            intermediate_size=2 * config.width,  # gated, so there are two of them
            max_position_embeddings=512,
            # Every other layer sees only its neighbourhood.
            global_attn_every_n_layers=2,
            local_attention=32,
            bos_token_id=special_ids["cls_token_id"],
            eos_token_id=special_ids["sep_token_id"],
            **special_ids,
        )
        model = ModernBertForMaskedLM(shape)
    else:
        tokenizer, model = load_base(AutoModelForMaskedLM, base)
        core = tokenizer.backend_tokenizer
    progress("reading the corpus")
    if config.length > model.config.max_position_embeddings:
        raise TrainingDataError(f"the encoder reads at most {model.config.max_position_embeddings} tokens at a time")
    special = (tokenizer.cls_token_id, tokenizer.sep_token_id)
    parts = [blocks(source.texts, core, config.length, *special) for source in corpus]
    ids, starts = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    train, held = mix([len(part) for part, _ in parts], [source.weight for source in corpus], config.seed)
    if len(train) < 2 or not len(held):
        raise TrainingDataError("the corpus is too small; it needs at least a few thousand characters")
    steps = config.steps or max(1, round(config.epochs * len(train) / config.batch))
    progress(f"{len(train)} blocks of {config.length} tokens, {steps} steps")
    arguments = trainer_arguments(
        folder / "checkpoints",
        max_steps=steps,
        per_device_train_batch_size=config.batch,
        per_device_eval_batch_size=config.batch,
        learning_rate=config.rate,
        warmup_steps=max(1, steps // 15),
        seed=config.seed,
        logging_steps=max(1, min(50, steps // 20)),
        eval_strategy="steps",
        eval_steps=max(1, min(config.save_steps, steps // 4)),
        save_steps=config.save_steps,
    )
    if torch.cuda.is_available() and find_spec("triton"):
        model.base_model.compile()  # a small encoder waits for its many small kernels otherwise
    masker = _Masker(tokenizer.mask_token_id, tokenizer.all_special_ids, model.config.vocab_size, config.masked)
    trainer = _trainer()(
        model=model,
        args=arguments,
        data_collator=masker,
        train_dataset=_Blocks(ids, starts, train),
        eval_dataset=_Blocks(ids, starts, held),
    )
    read = [[source.name, source.weight, digest(source.texts)] for source in corpus]
    job = {"config": asdict(config), "base": str(base), "corpus": read}
    run_trainer(trainer, folder / "checkpoints", job, progress)
    with quiet():
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    report = {
        "config": asdict(config),
        "base": None if base is None else str(base),
        "parameters": sum(p.numel() for p in model.parameters()),
        "sources": [
            {"name": s.name, "texts": len(s.texts), "blocks": len(ids), "weight": s.weight}
            for s, (ids, _) in zip(corpus, parts, strict=True)
        ],
        "steps": steps,
        "losses": [
            {key: round(float(entry[key]), 4) for key in ("step", "loss", "eval_loss") if key in entry}
            for entry in trainer.state.log_history
            if "loss" in entry or "eval_loss" in entry
        ],
    }
    (folder / "pretraining.json").write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (folder / "loss.svg").write_text(learning_curve(report["losses"], "step", ("loss", "eval_loss")), encoding="utf-8")
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return report


class _Blocks:
    """Some of the blocks, as a torch dataset: token ids and word beginnings, shape (2, length)."""

    def __init__(self, ids: IntArray, starts: Any, order: Any) -> None:
        self._ids, self._starts, self._order = ids, starts, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, i: int) -> Any:
        at = self._order[i]
        return np.stack([self._ids[at], self._starts[at]]).astype(np.int32)


class _Masker:
    """Collates blocks, hiding whole words: of their tokens 80 % become the mask, 10 % another token."""

    def __init__(self, mask: int, special: Sequence[int], vocabulary: int, share: float) -> None:
        self._mask, self._special, self._vocabulary, self._share = mask, list(special), vocabulary, share

    def __call__(self, rows: Sequence[IntArray]) -> dict[str, Any]:
        import torch

        both = torch.from_numpy(np.stack(rows)).long()
        ids, starts = both[:, 0].clone(), both[:, 1]
        word = starts.cumsum(1)
        hidden = torch.rand(len(ids), int(word.max()) + 1) < self._share
        hidden = hidden.gather(1, word) & ~torch.isin(ids, torch.tensor(self._special))
        labels = torch.where(hidden, ids, -100)
        draw = torch.rand(ids.shape)
        ids[hidden & (draw < 0.8)] = self._mask
        swapped = hidden & (draw > 0.9)
        ids[swapped] = torch.randint(self._vocabulary, (int(swapped.sum()),))
        return {"input_ids": ids, "labels": labels}


def _trainer() -> Any:
    """A Trainer that asks the vocabulary, the widest layer, only at the hidden tokens."""
    import torch
    from transformers import Trainer

    class WholeWordTrainer(Trainer):
        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            ids, labels = inputs["input_ids"], inputs["labels"]
            with self.accelerator.autocast():
                if (ask := _vocabulary_head(model)) is not None:
                    chosen = labels != -100
                    logits = ask(model.base_model(input_ids=ids).last_hidden_state[chosen])
                    loss = torch.nn.functional.cross_entropy(logits.float(), labels[chosen])
                else:  # another architecture, or spread over several GPUs
                    loss = model(input_ids=ids, labels=labels).loss
            return (loss, {"loss": loss}) if return_outputs else loss

    return WholeWordTrainer


def _vocabulary_head(model: Any) -> Callable[[Any], Any] | None:
    if hasattr(model, "cls"):  # BERT
        head: Callable[[Any], Any] = model.cls
        return head
    if hasattr(model, "head") and hasattr(model, "decoder"):  # ModernBERT
        return lambda states: model.decoder(model.head(states))
    return None
