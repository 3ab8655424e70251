"""The page and the plot of the engine's benchmark."""

from __future__ import annotations

import math
import os
import platform
import statistics
from datetime import UTC, datetime
from pathlib import Path

WANTED = {
    "put_64": ("durable puts of 150 B, 64 at a time", "at least 50,000/s"),
    "put_batch_64": ("the same in batches of 64, 16 at a time", "at least 150,000 cells/s"),
    "put_4mib": ("durable values of 4 MiB, one at a time", "at least 60 % of `disk_4mib`"),
    "disk_4mib": ("the bare loop of write and fdatasync of 4 MiB, same disk, same run", ""),
    "get_4mib": ("values of 4 MiB from the page cache, checked", "at least 1,500 MB/s"),
    "get_small": ("gets of small cells, in process", "at least 500,000/s"),
    "scan": ("ordered scan, in process", "at least 500,000 cells/s"),
    "bytes_per_cell": ("memory over key and value", "at most 300 bytes"),
    "longest_pause_ms": (
        "longest pause of an event loop beside checkpoints, compaction, scans and writes",
        "at most 20 ms",
    ),
    "longest_run_ms": ("processor time of the longest stretch between two switches, in the same runs", "at most 20 ms"),
    "open_s": ("opening: checkpoint, log, digest verified", "under 15 s"),
    "checkpoint_s": ("a checkpoint written, synced, read back and verified, at once", ""),
}
PLOTTED = ("get_small", "scan", "put_64", "put_batch_64")
COLOURS = ("#206bc4", "#2fb344", "#d63939", "#f59f00")


def draw(path: Path, growth: dict[int, dict[str, float]]) -> None:
    """Rates against the number of cells, both logarithmic, as SVG."""
    width, height, left, top, right, bottom = 640, 380, 80, 20, 150, 50
    sizes = sorted(growth)
    values = [growth[n][name] for n in sizes for name in PLOTTED]
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))

    def x(cells: int) -> float:
        span = math.log10(sizes[-1] / sizes[0])
        return left + (width - left - right) * math.log10(cells / sizes[0]) / span

    def y(value: float) -> float:
        return top + (height - top - bottom) * (high - math.log10(value)) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<line x1="{left}" x2="{width - right}" y1="{at:.1f}" y2="{at:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{left - 8}" y="{at + 4:.1f}" text-anchor="end">{10**power:,}</text>')
    for cells in sizes:
        parts.append(f'<text x="{x(cells):.1f}" y="{height - bottom + 20}" text-anchor="middle">{cells:,}</text>')
    parts.append(
        f'<text x="{(left + width - right) / 2}" y="{height - 8}" text-anchor="middle">cells in the tablet</text>'
    )
    for name, colour in zip(PLOTTED, COLOURS, strict=True):
        points = " ".join(f"{x(n):.1f},{y(growth[n][name]):.1f}" for n in sizes)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x(n):.1f}" cy="{y(growth[n][name]):.1f}" r="3" fill="{colour}"/>' for n in sizes]
        parts.append(
            f'<text x="{width - right + 8}" y="{y(growth[sizes[-1]][name]) + 4:.1f}" fill="{colour}">{name} /s</text>'
        )
    parts.append("</svg>")
    path.write_text("\n".join(parts) + "\n", encoding="utf-8")


def shown(value: float) -> str:
    """A figure as people read it."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write_page(
    path: Path,
    figures: dict[str, list[float]],
    growth: dict[int, dict[str, float]],
    gigabytes: int,
    opened: dict[str, float] | None,
) -> None:
    """The section of the benchmarks page that is about the engine."""
    lines = [
        "# The storage engine by itself",
        "",
        f"From `make bench-engine`, {datetime.now(UTC):%d %B %Y}, Python {platform.python_version()}, {platform.system()} "
        f"{platform.release()}. Medians; in brackets the lowest and the highest run. With a million cells where it matters.",
        "",
        f"Load average at the end of the run: {os.getloadavg()[1]:.1f}. When other processes want the processors, "
        "`longest_pause_ms` is mostly their time; `longest_run_ms` is the engine's own.",
        "",
        "| figure | what | measured | wanted |",
        "| --- | --- | --- | --- |",
    ]
    for name, (what, wanted) in WANTED.items():
        values = figures[name]
        spread = f"{shown(min(values))} – {shown(max(values))}"
        lines.append(f"| `{name}` | {what} | **{shown(statistics.median(values))}** ({spread}) | {wanted} |")
    if opened is not None:
        lines += [
            "",
            f"A node with {gigabytes} GB of 4 MiB chunks had {opened['resident_mb']:.0f} MB of memory when it had opened them "
            f"(wanted: under 200 MB), and opened in {opened['seconds']:.1f} s with a million small cells beside them (wanted: "
            "under 15 s).",
        ]
    lines += ["", "## Growth with the number of cells", "", "![growth](engine-growth.svg)", ""]
    names = list(next(iter(growth.values())))
    lines += ["| cells | " + " | ".join(f"`{name}`" for name in names) + " |", "| --- |" + " --- |" * len(names)]
    for cells, found in sorted(growth.items()):
        lines.append(f"| {cells:,} | " + " | ".join(shown(found[name]) for name in names) + " |")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
