"""An evaluation as one HTML page: tables and inline SVG plots, no outside resource."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

_STYLE = """
:root{color-scheme:light dark}body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;margin:1rem 0}td,th{padding:.2rem .7rem;text-align:right;border-bottom:1px solid #8884}
td:first-child,th:first-child{text-align:left}svg{background:#8881;margin:.5rem 0}.bar{fill:#3b7dd8}.line{fill:none;
stroke:#d8573b;stroke-width:2}text{font-size:11px;fill:currentColor}
"""


def html_report(report: Mapping[str, Any], title: str) -> str:
    """The page for what `evaluate.evaluate` returned."""
    parts = [f"<!doctype html><html lang=zh><meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"]
    parts.append(f"<h1>{escape(title)}</h1><p>{report['rows']} 行参与评估,{len(report['skipped'])} 行跳过。</p>")
    for head, result in report["heads"].items():
        parts.append(f"<h2>{escape(head)}</h2>")
        parts.append(_table(["指标", "值"], [[k, f"{v:g}"] for k, v in result["figures"].items()]))
        parts.append("<h3>覆盖率与准确率</h3>" + _curve(result["coverage"]))
        parts.append("<h3>每类 F1</h3>" + _bars([(c["code"], c["f1"], c["rows"]) for c in result["classes"]]))
        rows = [[c["label"], c["predicted"], c["rows"], " ".join(c["ids"])] for c in result["confusions"]]
        parts.append("<h3>最常混淆</h3>" + _table(["标注", "预测", "行数", "例 id"], rows))
    return "\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _curve(points: Sequence[Sequence[float]]) -> str:
    """Accuracy over the share answered; the vertical axis starts at the next lower tenth."""
    low = min(int(min(a for _, a in points) * 10) / 10, 0.9)
    place = [(40 + 400 * c, 190 - 170 * (a - low) / (1 - low)) for c, a in points]
    ticks = "".join(
        f"<text x=4 y={194 - 170 * i / 4:.0f}>{low + (1 - low) * i / 4:.3f}</text>"
        f"<text x={32 + 400 * i / 4:.0f} y=208>{i * 25}%</text>"
        for i in range(5)
    )
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in place)
    plot = f'{ticks}<polyline class=line points="{line}"/>'
    return f'<svg width=470 height=214 role=img aria-label="覆盖率与准确率">{plot}</svg>'


def _bars(rows: Sequence[tuple[str, float, int]]) -> str:
    bars = "".join(
        f"<text x=0 y={18 * i + 13}>{escape(code)}</text>"
        f"<rect class=bar x=130 y={18 * i + 3} width={260 * f1:.1f} height=12 />"
        f"<text x={136 + 260 * f1:.0f} y={18 * i + 13}>{f1:.2f} ({n})</text>"
        for i, (code, f1, n) in enumerate(sorted(rows, key=lambda row: -row[1]))
    )
    return f'<svg width=480 height={18 * len(rows) + 6} role=img aria-label="每类 F1">{bars}</svg>'
