"""The report's drawings: bars in HTML, curves and units in SVG. Colors come from the page's CSS."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence

WIDTH, HEIGHT = 440, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 14, 36, 34
_LETTER = 7  # about a letter's width


def bars(rows: Sequence[tuple[str, float, str, str]]) -> str:
    """Horizontal bars from 0.

    Args:
        rows: (label, value, value as text, CSS class) each.

    Returns:
        HTML.
    """
    most = max(value for _, value, _, _ in rows)
    lines = [
        f'<div class="bar {kind}"><span class="label">{html.escape(label)}</span>'
        f'<span class="track"><i style="width:{max(0.4, 100 * value / most):.1f}%"></i></span>'
        f"<b>{html.escape(text)}</b></div>"
        for label, value, text, kind in rows
    ]
    return f'<div class="bars">{"".join(lines)}</div>'


def ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers within [low, high], about `most` of them."""
    rough = (high - low) / most or 1.0
    scale = 10 ** math.floor(math.log10(rough))
    step = next(m * scale for m in (1, 2, 2.5, 5, 10) if m * scale >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 10) for k in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(
    series: Mapping[str, tuple[Sequence[float], str]],
    *,
    title: str,
    phases: Sequence[tuple[str, float]] = (),
    from_zero: bool = False,
    number: str = "g",
) -> str:
    """A line chart over epochs 1, 2, ....

    Args:
        series: Label -> (value per epoch, CSS class).
        title: What is drawn, for people who can't see it and above the chart.
        phases: (label, epoch at which it begins), epochs counted from 0.
        from_zero: Whether the vertical axis begins at 0.
        number: Format of the numbers on the vertical axis.

    Returns:
        SVG.
    """
    values = [v for points, _ in series.values() for v in points]
    epochs = max(len(points) for points, _ in series.values())
    low, high = (0.0 if from_zero else min(values)), max(values)
    pad = 0.08 * (high - low) or 0.1
    low, high = (0.0 if from_zero else low - pad), high + pad

    def x(epoch: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * epoch / epochs

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * (value - low) / (high - low)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">']
    for tick in ticks(low, high):
        parts.append(f'<path class="grid" d="M{_LEFT} {y(tick):.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:{number}}</text>')
    line, end = 0, 0.0
    for label, start in phases:
        left = x(start) + 5
        line = 1 - line if left < end else 0  # a short phase leaves its label no room beside the next one
        end = left + _LETTER * len(label)
        parts.append(f'<path class="phase" d="M{x(start):.1f} {_TOP - 6}V{HEIGHT - _BOTTOM}"/>')
        top = _TOP - 8 - 13 * line
        parts.append(f'<text class="phase" x="{left:.1f}" y="{top}">{html.escape(label)}</text>')
    for epoch in range(1, epochs + 1):
        parts.append(f'<text x="{x(epoch):.1f}" y="{HEIGHT - 14}" text-anchor="middle">{epoch}</text>')
    for points, kind in series.values():
        path = "L".join(f"{x(i + 1):.1f} {y(v):.1f}" for i, v in enumerate(points))
        parts.append(f'<path class="line {kind}" d="M{path}"/>')
        parts += [
            f'<circle class="{kind}" cx="{x(i + 1):.1f}" cy="{y(v):.1f}" r="3.2"/>'
            for i, v in enumerate(points)
        ]
    legend = "".join(
        f'<span class="{kind}">{html.escape(label)}</span>' for label, (_, kind) in series.items()
    )
    return f'{"".join(parts)}</svg><p class="legend">{legend}</p>'


def units(kept: Sequence[bool], name: str) -> str:
    """One square per hidden unit: filled where it stayed, an outline where it was removed."""
    columns = max(8, 2 ** round(math.log2(math.sqrt(max(1, len(kept))))))
    rows = math.ceil(len(kept) / columns)
    cells = {True: [], False: []}
    for i, stays in enumerate(kept):
        cells[bool(stays)].append(f"M{10 * (i % columns) + 1} {10 * (i // columns) + 1}h8v8h-8z")
    label = f"{name}: {sum(map(bool, kept))} of {len(kept)} units stay"
    return (
        f'<svg class="units" viewBox="0 0 {10 * columns} {10 * rows}" role="img" aria-label="{html.escape(label)}">'
        f'<path class="gone" d="{"".join(cells[False])}"/><path class="kept" d="{"".join(cells[True])}"/></svg>'
    )
