"""What pre-training and fine-tuning share of torch and transformers."""

import ctypes
import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError

from jiesu_nlp.errors import ModelFormatError, TrainingDataError


def load_base(auto: Any, base: str | Path, **options: Any) -> tuple[Any, Any]:
    """Tokenizer and model of a checkpoint: a local folder, or a name on the Hugging Face hub.

    Args:
        auto: the `transformers` class to load with, such as ``AutoModel``.

    Raises:
        ModelFormatError: it cannot be read; for a hub name, most likely for want of a network.
    """
    import torch
    from transformers import AutoTokenizer

    try:
        with quiet():
            # Weights in safetensors only: other formats are pickles, which can execute.
            model = auto.from_pretrained(
                str(base), use_safetensors=True, trust_remote_code=False, dtype=torch.float32, **options
            )
            tokenizer = AutoTokenizer.from_pretrained(str(base), use_fast=True, trust_remote_code=False)
        return tokenizer, model
    except (OSError, ValueError, SafetensorError) as error:
        if Path(base).is_dir():
            why = (
                "the folder needs config.json, tokenizer.json (or vocab.txt) and model.safetensors; where there "
                "is a pytorch_model.bin instead, see docs/encoder.md"
            )
        else:
            why = (
                "it is no local folder, and the hub does not answer or does not have it in safetensors; "
                "download the checkpoint where there is a network and give its folder instead"
            )
        raise ModelFormatError(f"checkpoint {str(base)!r} cannot be loaded: {why} ({type(error).__name__})") from error


def convert(folder: str | Path) -> None:
    """Write ``model.safetensors`` from the ``pytorch_model.bin`` of a downloaded checkpoint.

    The pickle is read by torch's restricted reader, which builds tensors and refuses anything else.

    Raises:
        ModelFormatError: there is no such file, or it holds more than tensors.
    """
    import pickle

    import torch
    from safetensors.torch import save_file

    source = Path(folder) / "pytorch_model.bin"
    try:
        state = torch.load(source, map_location="cpu", weights_only=True)
        tensors = {name: tensor.contiguous().clone() for name, tensor in state.items()}
    except (OSError, RuntimeError, AttributeError, pickle.UnpicklingError) as error:
        raise ModelFormatError(f"{source}: not a file of tensors alone ({type(error).__name__})") from error
    save_file(tensors, Path(folder) / "model.safetensors", metadata={"format": "pt"})


def can_bf16() -> bool:
    """Whether this machine multiplies in bfloat16 faster than in float32."""
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def keep_memory() -> None:
    """Let glibc keep freed blocks instead of returning them to the system; a fifth faster on a CPU.

    Every step allocates the same large blocks anew, and each fresh one costs a fault a page.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            m_mmap_max, m_trim_threshold = -4, -1
            libc.mallopt(m_mmap_max, 0)
            libc.mallopt(m_trim_threshold, 2**31 - 1)


def exact(network: Any) -> Callable[[NDArray[np.int64]], NDArray[np.float32]]:
    """A network of `fit_bert.token_heads` on the CPU as exports are run: ids (n, t), none padding, to logits."""
    import torch

    def run(ids: NDArray[np.int64]) -> NDArray[np.float32]:
        with torch.no_grad():
            logits: NDArray[np.float32] = network(
                torch.from_numpy(ids), torch.ones(ids.shape, dtype=torch.int64)
            ).numpy()
        return logits

    return run


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers and torch's exporter from talking, and put their loggers back afterwards."""
    from transformers import logging as transformers_logging

    before = transformers_logging.get_verbosity()
    exporter = logging.getLogger("torch.onnx")
    level, bars = exporter.level, transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    exporter.setLevel(logging.ERROR)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(before)
        exporter.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def run_trainer(trainer: Any, folder: Path, job: Mapping[str, Any], progress: Callable[[str], None]) -> None:
    """Train, or go on from the last checkpoint in `folder` if the same job was killed there.

    Args:
        job: what makes two runs the same; JSON-ready.

    Raises:
        TrainingDataError: the checkpoints are those of another job.
    """
    from transformers import PrinterCallback, TrainerCallback

    class Progress(TrainerCallback):
        def __init__(self) -> None:
            self.begin = (0, 0.0)

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.begin = (state.global_step, time.monotonic())

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            done, (first, since) = state.global_step, self.begin
            left = (time.monotonic() - since) / max(done - first, 1) * (state.max_steps - done) / 60
            figures = " ".join(f"{k} {v:.4g}" for k, v in (logs or {}).items() if k in _SHOWN)
            if figures:
                progress(f"step {done}/{state.max_steps}, {figures}, {left:.0f} min left")

    trainer.remove_callback(PrinterCallback)  # it prints to where --json goes
    trainer.add_callback(Progress())
    note = folder / "job.json"
    text = json.dumps(job, ensure_ascii=False, sort_keys=True)
    for checkpoint in folder.glob("checkpoint-*"):
        if not (checkpoint / "trainer_state.json").exists():  # written last: this one was cut short
            shutil.rmtree(checkpoint)
    resumed = any(folder.glob("checkpoint-*"))
    if resumed and (not note.exists() or note.read_text(encoding="utf-8") != text):
        raise TrainingDataError(f"{folder} holds checkpoints of another run; finish that one, or remove the folder")
    folder.mkdir(parents=True, exist_ok=True)
    note.write_text(text, encoding="utf-8")
    with quiet():
        trainer.train(resume_from_checkpoint=resumed or None)


def digest(texts: Iterable[str]) -> str:
    """The same for the same texts in the same order."""
    total = hashlib.sha256()
    for text in texts:
        total.update(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest())
    return total.hexdigest()[:16]


_SHOWN = ("loss", "eval_loss", "eval_macro_f1")


def trainer_arguments(folder: Path, **own: Any) -> Any:
    """`transformers.TrainingArguments` with what every run here wants: quiet, seeded, resumable, no reporting."""
    import torch
    from transformers import TrainingArguments

    common: dict[str, Any] = {
        "output_dir": str(folder),
        "use_cpu": not torch.cuda.is_available(),
        "report_to": [],
        "disable_tqdm": True,
        "restore_callback_states_from_checkpoint": True,  # how long early stopping has waited already
        "save_total_limit": 2,
        "bf16": can_bf16(),
        "optim": "adamw_torch_fused",
        "lr_scheduler_type": "linear",
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
        "dataloader_pin_memory": False,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "prediction_loss_only": True,
    }
    return TrainingArguments(**(common | own))
