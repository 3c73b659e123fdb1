"""
Draw the plots of ``README.md``: ``python tests/benchmarks/plots.py``.

The script reads ``results/*peers.jsonl``, which ``run_all.py`` writes, and draws into
``.github``. A plot without results stays as it is.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

HERE = Path(__file__).parent
PICTURES = HERE.parents[1] / ".github"

OURS, THEIRS, LIMIT = "#2f81f7", "#9aa4af", "#d1242f"
INK = "#123456"
"""A placeholder for the text colour of the reader's colour scheme."""
SCHEMES = """<style>
svg { color: #1f2328; background: #ffffff }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3; background: #0d1117 } }
</style>
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """A bar chart of one figure of one benchmark, with one bar per subject."""

    benchmark: str
    figure: str
    label: str
    scale: float = 1.0
    """The divisor of the figures."""
    of: str = ""
    """The subject whose figure is the divisor, if given."""
    logarithmic: bool = True
    limit: tuple[float, str] | None = None
    """The position and the name of a line to compare with."""


PLOTS = {
    "capture": (
        "CPU to keep every line with its arrival time, relative to a bare read loop",
        Panel("capture 100", "s", "1,000,000 lines of 100 bytes", of="bare read loop"),
        Panel("capture 10", "s", "5,000,000 lines of 10 bytes", of="bare read loop"),
    ),
    "restart": (
        "Time from SIGKILL of a child to the first line of its replacement",
        Panel("restart", "ms", "milliseconds"),
    ),
    "lateness": (
        "Lateness of a 20 ms ticker in the event loop that reads ten floods",
        Panel(
            "ten floods",
            "max ms",
            "milliseconds, maximum of 3 s",
            limit=(20, "one audio frame"),
        ),
    ),
    "log": (
        "CPU of a log call in the calling thread, with a context of three keys",
        Panel("log", "call ns", "microseconds of CPU", scale=1000),
    ),
    "survivors": (
        "Processes alive one second after SIGKILL of their supervisor",
        Panel("survivors", "of 3", "child, grandchild, daemon", logarithmic=False),
    ),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """The median, lowest and highest figure of a subject."""

    subject: str
    median: float
    lowest: float
    highest: float

    @property
    def ours(self) -> bool:
        """Whether the bar belongs to this package and is highlighted."""
        return self.subject.startswith("ours")


def read_results() -> tuple[dict[str, list[dict]], str]:
    """Return the results of each benchmark and a description of the machine."""
    found: dict[str, list[dict]] = {}
    machine = ""
    for file in sorted((HERE / "results").glob("*peers.jsonl")):
        for line in file.read_text().splitlines():
            record = json.loads(line)
            if facts := record.get("machine"):
                machine = "Python {python}, {kernel}, {processors}, {day}".format(
                    **facts
                )
            else:
                found.setdefault(record["benchmark"], []).append(record)
    return found, machine


def bars(panel: Panel, results: list[dict]) -> list[Bar]:
    """Return the bars from the bottom to the top of the chart, the longest first."""
    base = panel.scale
    for record in results:
        if record["subject"] == panel.of:
            base = record["median"][panel.figure]
    found = [
        Bar(
            record["subject"],
            *(record[key][panel.figure] / base for key in ("median", "min", "max")),
        )
        for record in results
    ]
    return sorted(found, key=lambda bar: -bar.median)


def draw(axes, panel: Panel, found: list[Bar]) -> None:
    """Draw the bars, each with its spread and its median."""
    axes.barh(
        [bar.subject for bar in found],
        [bar.median for bar in found],
        xerr=[
            [bar.median - bar.lowest for bar in found],
            [bar.highest - bar.median for bar in found],
        ],
        color=[OURS if bar.ours else THEIRS for bar in found],
        height=0.66,
        error_kw={"ecolor": INK, "elinewidth": 1},
    )
    for row, bar in enumerate(found):
        axes.annotate(
            readable(bar.median),
            (bar.highest, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            weight="bold" if bar.ours else "normal",
        )


def readable(value: float) -> str:
    """Return a number with about two digits."""
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.2g}"


def frame(axes, panel: Panel, found: list[Bar]) -> None:
    """Set the scale, the label and the limit."""
    highest = max(bar.highest for bar in found)
    if panel.logarithmic:
        lowest = min(bar.lowest for bar in found) / 2
        axes.set_xscale("log")
        axes.set_xlim(lowest, highest * (highest / lowest) ** 0.12)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    else:
        axes.set_xlim(0, highest * 1.12)
        axes.set_xticks(range(int(highest) + 1))
    axes.set_xlabel(panel.label + ", log scale" * panel.logarithmic, color=INK)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.grid(axis="x", color=INK, alpha=0.15)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    if panel.limit:
        value, name = panel.limit
        axes.axvline(value, color=LIMIT, linewidth=1, linestyle="--")
        upright = axes.get_xaxis_transform()  # y from 0 to 1
        axes.text(value, 1, f" {name}", transform=upright, color=LIMIT, va="top")


def plot(title: str, panels: list[Panel], found: dict, machine: str) -> Figure:
    """Return a plot with one or several panels."""
    figure = Figure(figsize=(4.6 * len(panels), 3.1), layout="constrained")
    figure.suptitle(title, color=INK, fontsize=10)
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(columns, panels, strict=True):
        shown = bars(panel, found[panel.benchmark])
        draw(axes, panel, shown)
        frame(axes, panel, shown)
    figure.supxlabel(machine, color=INK, alpha=0.6, fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write an SVG whose colours follow the reader's colour scheme."""
    figure.savefig(path, transparent=True, metadata={"Date": None})
    drawn = path.read_text().replace(INK, "currentColor")
    path.write_text(drawn.replace("<defs>", f"{SCHEMES}<defs>", 1))


def main() -> None:
    """Draw all plots that have results."""
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "plots", "font.size": 9}
    found, machine = read_results()
    for name, (title, *panels) in PLOTS.items():
        if all(panel.benchmark in found for panel in panels):
            save(plot(title, panels, found, machine), PICTURES / f"{name}.svg")
            print(f"drew .github/{name}.svg")
        else:
            print(f"no results for .github/{name}.svg")


if __name__ == "__main__":
    main()
