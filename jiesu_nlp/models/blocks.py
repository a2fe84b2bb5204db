"""Attention as it is exported: no mask, and where a layer sees only its neighbourhood, block by block.

A masked score is computed, masked and thrown away. A block of queries needs the keys of its own block
and half a block on either side, so a layer of window w costs 4 w a token whatever the length of the text.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_NAME = "jiesu_blocks"
_NEVER = -10000.0


@contextmanager
def unmasked_attention(encoder: Any) -> Iterator[None]:
    """Let an encoder with local layers compute them in blocks, for rows without padding."""
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    if not getattr(encoder.config, "sliding_window", None):
        yield
        return
    before = encoder.config._attn_implementation
    ALL_ATTENTION_FUNCTIONS.register(_NAME, _attend)
    ALL_MASK_ATTENTION_FUNCTIONS.register(_NAME, lambda *_, **__: None)
    encoder.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        encoder.set_attn_implementation(before)


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Attention of all heads, query, key and value of shape (n, heads, t, d), to (n, t, heads, d)."""
    from torch import cat
    from torch.nn.functional import pad, scaled_dot_product_attention

    if sliding_window is None:
        return scaled_dot_product_attention(query, key, value, scale=scaling).transpose(1, 2).contiguous(), None
    reach = sliding_window - 1  # to either side
    block = 2 * reach
    n, heads, t, d = query.shape
    blocks = (t + block - 1) // block
    spare = blocks * block - t

    def around(states: Any) -> Any:
        """For each block the states of it and of half a block on either side."""
        states = pad(states, (0, 0, reach, spare + reach))
        first = states[:, :, : blocks * block].reshape(n, heads, blocks, block, d)
        second = states[:, :, block:].reshape(n, heads, blocks, block, d)
        return cat([first, second], dim=3).reshape(n, heads * blocks, 2 * block, d)

    queries = pad(query, (0, 0, 0, spare)).reshape(n, heads * blocks, block, d)
    found = scaled_dot_product_attention(
        queries, around(key), around(value), attn_mask=_near(t, blocks, block, reach, heads), scale=scaling
    )
    return found.reshape(n, heads, blocks * block, d)[:, :, :t].transpose(1, 2).contiguous(), None


def _near(t: int, blocks: int, block: int, reach: int, heads: int) -> Any:
    """What to add to the scores of each block, shape (1, heads * blocks, block, 2 * block)."""
    import torch

    places = torch.arange(2 * block) - reach
    near = (torch.arange(block)[:, None] - places[None]).abs() <= reach
    at = torch.arange(blocks)[:, None] * block + places[None]
    counts = near[None] & ((at >= 0) & (at < t))[:, None]
    bias = torch.where(counts, 0.0, _NEVER)
    return bias[None].expand(heads, -1, -1, -1).reshape(1, heads * blocks, block, 2 * block)
