"""Lines and bars as inline SVG, drawn with the colours of the page they stand on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

_WIDTH, _HEIGHT = 720, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 14, 46


@dataclass(frozen=True)
class Series:
    """A name and values; `x` gives their positions in a line chart (0, 1, 2 ... if empty)."""

    name: str
    y: Sequence[float]
    x: Sequence[float] = ()


@dataclass(frozen=True)
class Chart:
    """Series over one pair of axes. In a bar chart `labels` names the groups, one per value."""

    series: Sequence[Series]
    kind: Literal["line", "bar"] = "line"
    x_label: str = ""
    y_label: str = ""
    labels: Sequence[str] = ()
    description: str = ""

    def __post_init__(self) -> None:
        for series in self.series:
            if series.x and len(series.x) != len(series.y):
                raise ValueError(f"series {series.name!r}: {len(series.x)} x for {len(series.y)} y")


@dataclass(frozen=True)
class _Axis:
    """Maps values onto pixels, with round tick values."""

    low: float
    high: float
    start: float
    end: float
    ticks: Sequence[float]

    def place(self, value: float) -> float:
        span = self.high - self.low or 1.0
        return round(self.start + (value - self.low) / span * (self.end - self.start), 1)


def draw_chart(chart: Chart) -> dict[str, Any]:
    """What the page's template needs: ticks, shapes and names. Values not finite are left out."""
    values = [y for series in chart.series for y in series.y if math.isfinite(y)]
    lows = [0.0, *values] if chart.kind == "bar" else values
    y_axis = _make_axis(lows, _HEIGHT - _BOTTOM, _TOP)
    drawn = _draw_bars(chart, y_axis) if chart.kind == "bar" else _draw_lines(chart, y_axis)
    return drawn | {
        "kind": chart.kind,
        "width": _WIDTH,
        "height": _HEIGHT,
        "left": _LEFT,
        "right": _WIDTH - _RIGHT,
        "bottom": _HEIGHT - _BOTTOM,
        "top": _TOP,
        "y_ticks": [(y_axis.place(tick), _label(tick)) for tick in y_axis.ticks],
        "x_label": chart.x_label,
        "y_label": chart.y_label,
        "description": chart.description or _describe(chart),
        "names": [series.name for series in chart.series],
    }


def _draw_lines(chart: Chart, y_axis: _Axis) -> dict[str, Any]:
    xs = [x for series in chart.series for x in _positions(series)]
    x_axis = _make_axis(xs, _LEFT, _WIDTH - _RIGHT, snug=True)
    lines = []
    for series in chart.series:
        points = [
            (x_axis.place(x), y_axis.place(y))
            for x, y in zip(_positions(series), series.y, strict=True)
            if math.isfinite(y)
        ]
        lines.append({"path": " ".join(f"{x},{y}" for x, y in points), "last": points[-1:]})
    return {
        "lines": lines,
        "bars": [],
        "x_ticks": [(x_axis.place(t), _label(t)) for t in x_axis.ticks],
    }


def _draw_bars(chart: Chart, y_axis: _Axis) -> dict[str, Any]:
    groups = max((len(series.y) for series in chart.series), default=0)
    step = (_WIDTH - _LEFT - _RIGHT) / max(groups, 1)
    width = min(step * 0.76 / max(len(chart.series), 1), 64.0)
    zero = y_axis.place(0.0)
    bars = []
    for number, series in enumerate(chart.series):
        for group, value in enumerate(series.y):
            if not math.isfinite(value):
                continue
            middle = _LEFT + (group + 0.5) * step
            x = middle + (number - len(chart.series) / 2) * width
            top = y_axis.place(value)
            bars.append(
                {
                    "series": number,
                    "x": round(x + 1, 1),
                    "y": min(top, zero),
                    "width": round(width - 2, 1),
                    "height": round(abs(zero - top), 1),
                    "value": f"{series.name} {_group_name(chart, group)}: {_label(value)}",
                }
            )
    ticks = [(round(_LEFT + (g + 0.5) * step, 1), _group_name(chart, g)) for g in range(groups)]
    return {"lines": [], "bars": bars, "x_ticks": ticks}


def _group_name(chart: Chart, group: int) -> str:
    return chart.labels[group] if group < len(chart.labels) else str(group + 1)


def _positions(series: Series) -> Sequence[float]:
    return series.x or range(len(series.y))


def _make_axis(values: Sequence[float], start: float, end: float, *, snug: bool = False) -> _Axis:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if low == high:
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    step = _round_step((high - low) / 5)
    first, last = math.floor(low / step), math.ceil(high / step)
    ticks = [tick * step for tick in range(first, last + 1)]
    if snug:
        return _Axis(low, high, start, end, [tick for tick in ticks if low <= tick <= high])
    return _Axis(first * step, last * step, start, end, ticks)


def _round_step(raw: float) -> float:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that is not below `raw`."""
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * 0.999)


def _label(value: float) -> str:
    if value and not 0.001 <= abs(value) < 1e6:
        return f"{value:.3g}"
    return f"{value:,.4f}".rstrip("0").rstrip(".") if value % 1 else f"{value:,.0f}"


def _describe(chart: Chart) -> str:
    parts = []
    for series in chart.series:
        finite = [y for y in series.y if math.isfinite(y)]
        if finite:
            parts.append(f"{series.name}: from {_label(finite[0])} to {_label(finite[-1])}")
    return f"{chart.y_label or 'Values'} by {chart.x_label or 'position'}. " + "; ".join(parts)
