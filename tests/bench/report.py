"""The report: a table and a plot of the figures, put into `docs/`.

Each table goes between two marks in `docs/benchmarks.md`; what stands around them is written by people.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from html import escape

from tests.bench.figures import CASES, FAILOVER, HANG, Figure
from tests.processes import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
PLOT = ROOT / "docs" / "bench" / "cluster.svg"
SYSTEMS = {
    "penncloud": "PennCloud",
    "ceiling": "ceiling",
    "redis_c": "Redis, C",
    "redis": "Redis, Python",
    "etcd": "etcd, Python",
    "postgresql": "PostgreSQL, Python",
}
TITLES = {case.name: f"{case.title}, {case.unit}" for case in CASES} | {
    FAILOVER: "primary killed: writes stop for, ms",
    HANG: "primary hangs: writes stop for, ms",
}
_COLOURS = {
    "penncloud": "#206bc4",
    "ceiling": "#9aa5b1",
    "redis_c": "#d63939",
    "redis": "#e88b8b",
    "etcd": "#2fb344",
    "postgresql": "#f59f00",
}


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def table(figures: Iterable[Figure]) -> str:
    """A Markdown table: cases down, systems across; below each value the median latency."""
    found = {(figure.name, figure.system): figure for figure in figures}
    systems = [system for system in SYSTEMS if any(key[1] == system for key in found)]
    lines = [
        "| | " + " | ".join(SYSTEMS[system] for system in systems) + " |",
        "| --- |" + " ---: |" * len(systems),
    ]
    for name, title in TITLES.items():
        if not any(key[0] == name for key in found):
            continue
        cells = []
        for system in systems:
            figure = found.get((name, system))
            if figure is None:
                cells.append("–")
            elif figure.unit == "ms":
                cells.append(_number(figure.value))
            else:
                cells.append(f"{_number(figure.value)} ({figure.p50_ms:.2f} ms)")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def put_into_page(name: str, text: str) -> None:
    """Write `text` between the marks of that name in the page, in place of what is there."""
    begin, end = f"<!-- {name} figures: begin -->", f"<!-- {name} figures: end -->"
    page = PAGE.read_text()
    if begin not in page or end not in page:
        raise RuntimeError(f"{PAGE} has no place for the table: it wants {begin!r} and {end!r}")
    before, rest = page.split(begin, 1)
    after = rest.split(end, 1)[1]
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{after}")


def into_docs(figures: list[Figure], skipped: dict[str, str], rounds: int, seconds: float) -> None:
    """Write the table into the page and the plot beside it."""
    told = [
        f"Median of {rounds} rounds of {seconds:g} s, {os.cpu_count()} processors for servers and load together; in"
        " brackets the median time of one call.",
        "",
        table(figures),
    ]
    told += [f"\n{SYSTEMS[name]} was left out: {reason}." for name, reason in skipped.items()]
    put_into_page("cluster", "\n".join(told))
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    PLOT.write_text(plot(figures))


def plot(figures: Iterable[Figure]) -> str:
    """Bars in SVG: for each case every system's value, as a share of the case's largest."""
    found = {(figure.name, figure.system): figure for figure in figures}
    label, width, bar, gap = 150, 460, 13, 12
    parts: list[str] = []
    y = 16
    for case in CASES:
        systems = [system for system in SYSTEMS if (case.name, system) in found]
        if not systems:
            continue
        most = max(found[case.name, system].value for system in systems)
        parts.append(f'<text x="8" y="{y + 10}" font-weight="bold">{escape(TITLES[case.name])}</text>')
        y += bar + 2
        for system in systems:
            value = found[case.name, system].value
            length = max(1.0, value / most * width)
            parts += [
                f'<text x="{label - 6}" y="{y + 10}" text-anchor="end" fill="#667">{SYSTEMS[system]}</text>',
                f'<rect x="{label}" y="{y}" width="{length:.1f}" height="{bar - 2}" fill="{_COLOURS[system]}"/>',
                f'<text x="{label + length + 5:.1f}" y="{y + 10}">{_number(value)}</text>',
            ]
            y += bar
        y += gap
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{label + width + 90}" height="{y}" '
    head += 'font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>", ""])
