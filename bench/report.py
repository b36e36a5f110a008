"""Percentiles and tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def percentile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of them lie, by the nearest rank."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share * len(ranked)))]


def number(value: float | None) -> str:
    """Three figures, or what stands for none."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]], width: int = 30) -> None:
    """Print a table: the first column to the left, the others to the right."""
    print(f"\n{title}")
    for row in [head, *rows]:
        first, *rest = row
        print(f"  {first:<{width}}" + "".join(f"{cell:>10}" for cell in rest).rstrip(), flush=True)
