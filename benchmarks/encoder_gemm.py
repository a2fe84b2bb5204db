"""How near the int8 encoder comes to the machine's own int8 products: the floor of its time.

    python benchmarks/encoder_gemm.py

On as many threads, in turns. The machine's rate is that of one large product of 8-bit integers in onnxruntime; the
encoder's counts the multiply-adds of its matrix products, attention among them, for the real messages (JIESU_DATA)
in batches of 32 of one length. Their quotient is the share of the time that the products alone would take there.
"""

import argparse
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper
from onnxruntime import InferenceSession, SessionOptions
from train_default import DATA, rows

from jiesu_nlp.models.bert import BertModel, threads
from jiesu_nlp.models.blend import BlendModel
from jiesu_nlp.models.load import load_model
from jiesu_nlp.models.modernbert import ModernBert
from jiesu_nlp.native.encoder import PRODUCTS
from jiesu_nlp.text import join_fields

SIZE = 1024
BATCH = 32


def session(model: bytes) -> InferenceSession:
    options = SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return InferenceSession(model, options, providers=["CPUExecutionProvider"])


def product() -> Callable[[], Any]:
    """One product of 8-bit integers, SIZE x SIZE x SIZE, weights constant as an encoder's are."""
    rng = np.random.default_rng(0)
    weights = helper.make_tensor("b", TensorProto.INT8, [SIZE, SIZE], rng.integers(-127, 128, SIZE * SIZE).tolist())
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    given = helper.make_tensor_value_info("a", TensorProto.UINT8, [SIZE, SIZE])
    result = helper.make_tensor_value_info("y", TensorProto.INT32, [SIZE, SIZE])
    model = helper.make_model(
        helper.make_graph([node], "g", [given], [result], [weights]), opset_imports=[helper.make_opsetid("", 21)]
    )
    model.ir_version = 10
    run, a = session(model.SerializeToString()), rng.integers(0, 256, (SIZE, SIZE)).astype(np.uint8)
    return lambda: run.run(None, {"a": a})


def multiply_adds(network: ModernBert, length: int) -> int:
    """Of all matrix products for one text; a token's attention counts with the tokens that it may see."""
    products = sum(int(np.prod(network.shapes()[name])) for name in PRODUCTS)
    places, width = np.arange(length), network.shapes()["norms"][1]
    seen = sum(
        int((np.minimum(places + (reach or length), length - 1) - np.maximum(places - (reach or length), 0) + 1).sum())
        for reach in network.reach
    )
    return products * length + 2 * seen * width  # scores, and the mean of the values by them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="accurate")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    model = load_model(arguments.model)
    encoder = (
        next(part for part in model.parts if isinstance(part, BertModel)) if isinstance(model, BlendModel) else model
    )
    assert isinstance(encoder, BertModel) and isinstance(encoder.network, ModernBert)
    messages = [join_fields(r["title"], r["body"]) for r in rows(DATA / "messages.jsonl")[:4000]]
    *_, pieces = encoder.rows(messages)
    by_length: dict[int, list[Any]] = {}
    for piece in pieces:  # cut to a multiple of 16, so that few messages fill a batch
        by_length.setdefault(len(piece) // 16 * 16, []).append(piece[: len(piece) // 16 * 16])
    # The longest first, so that the threads end together.
    batches = [np.array(some[:BATCH]) for _, some in sorted(by_length.items(), reverse=True) if len(some) >= BATCH]
    work = sum(BATCH * multiply_adds(encoder.network, batch.shape[1]) for batch in batches)
    run = encoder.network.runner()
    one, pool = product(), ThreadPoolExecutor(threads())
    rates: dict[str, list[float]] = {"product": [], "encoder": []}
    for _ in range(arguments.rounds):
        begin = time.perf_counter()
        list(pool.map(lambda _: one(), range(20 * threads())))
        rates["product"].append(20 * threads() * SIZE**3 / (time.perf_counter() - begin))
        begin = time.perf_counter()
        list(pool.map(run, batches))
        rates["encoder"].append(work / (time.perf_counter() - begin))
    tokens = sum(batch.size for batch in batches)
    share = median(own / machine for own, machine in zip(rates["encoder"], rates["product"], strict=True))
    print(f"onnxruntime {onnxruntime.__version__}, {threads()} threads, {len(batches)} batches of {BATCH}, padding 0")
    print(f"multiply-adds a token         {work / tokens / 1e6:8.2f} million")
    print(f"one product of {SIZE}^3        {median(rates['product']) / 1e9:8.0f} billion a second")
    print(f"encoder                       {median(rates['encoder']) / 1e9:8.0f} billion a second, {share:.0%} of it")


if __name__ == "__main__":
    main()
