"""A learning curve as an SVG picture, of no outside resource."""

from collections.abc import Mapping, Sequence
from html import escape

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP = 560, 300, 56, 28, 16
_COLOURS = ("#3b7dd8", "#d8573b", "#3a9d5d", "#8a5cc7", "#c79a2e")


def learning_curve(entries: Sequence[Mapping[str, float]], over: str, names: Sequence[str]) -> str:
    """Figures of a run over its steps or passes.

    Args:
        entries: what was written down at each point; a figure may be missing from some.
        over: the figure on the horizontal axis. names: those on the vertical one, a line each.
    """
    lines = {name: [(e[over], e[name]) for e in entries if name in e and over in e] for name in names}
    lines = {name: points for name, points in lines.items() if points}
    across = [x for points in lines.values() for x, _ in points] or [0.0]
    up = [y for points in lines.values() for _, y in points] or [0.0]
    low, high = min(up), max(up) if max(up) > min(up) else min(up) + 1
    first, last = min(across), max(across) if max(across) > min(across) else min(across) + 1

    def place(x: float, y: float) -> tuple[float, float]:
        right, down = (x - first) / (last - first), (high - y) / (high - low)
        return _LEFT + right * (_WIDTH - _LEFT - _RIGHT), _TOP + down * (_HEIGHT - _TOP - 40)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#fff"/>'
    ]
    for i in range(5):
        y = low + (high - low) * i / 4
        at = place(first, y)[1]
        parts.append(f'<path d="M{_LEFT} {at:.1f}H{_WIDTH - _RIGHT}" stroke="#ddd"/>')
        parts.append(f'<text x="4" y="{at + 4:.1f}">{y:.3g}</text>')
        x = first + (last - first) * i / 4
        parts.append(f'<text x="{place(x, low)[0] - 12:.1f}" y="{_HEIGHT - 22}">{x:.4g}</text>')
    for i, (name, points) in enumerate(lines.items()):
        colour = _COLOURS[i % len(_COLOURS)]
        path = " ".join("{:.1f},{:.1f}".format(*place(*point)) for point in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts.append(f'<text x="{_LEFT + 130 * i}" y="{_HEIGHT - 5}" fill="{colour}">{escape(name)}</text>')
    parts.append(f'<text x="{_WIDTH - 50}" y="{_HEIGHT - 5}">{escape(over)}</text></svg>')
    return "\n".join(parts) + "\n"
