"""
Draw the README's plots from what was measured: ``python tests/benchmarks/plots.py``.

Reads ``results/*.jsonl``, which ``every.py`` writes, and draws into ``.github``. A plot of
something that was not measured is left as it is.
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
"""Stands for the colour that the reader's scheme gives to text."""
SCHEMES = """<style>
svg { color: #1f2328; background: #ffffff }
@media (prefers-color-scheme: dark) { svg { color: #e6edf3; background: #0d1117 } }
</style>
"""


@dataclass(frozen=True, slots=True)
class Panel:
    """One figure of one benchmark, a bar for each subject."""

    benchmark: str
    figure: str
    label: str
    scale: float = 1.0
    """What the figures are divided by."""
    of: str = ""
    """The subject that they are a multiple of."""
    logarithmic: bool = True
    limit: tuple[float, str] | None = None
    """A value to compare with, and what it is."""


PLOTS = {
    "capture": (
        "CPU to keep every line with the time of its arrival, as a multiple of a bare loop",
        Panel("capture 100", "s", "1,000,000 lines of 100 bytes", of="bare read loop"),
        Panel("capture 10", "s", "5,000,000 lines of 10 bytes", of="bare read loop"),
    ),
    "revival": (
        "From SIGKILL of a child to the first line of the next",
        Panel("revival", "ms", "milliseconds"),
    ),
    "lateness": (
        "How late a 20 ms ticker gets in the loop that reads ten floods",
        Panel(
            "ten floods",
            "max ms",
            "milliseconds, the worst in 3 s",
            limit=(20, "one audio frame"),
        ),
    ),
    "log": (
        "What a log call costs its caller, with a context of three keys",
        Panel("log", "call ns", "microseconds of CPU", scale=1000),
    ),
    "survivors": (
        "Who lives on, a second after the supervisor was killed",
        Panel("survivors", "of 3", "child, grandchild, daemon", logarithmic=False),
    ),
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A subject's median, between the least and the most of its rounds."""

    subject: str
    median: float
    least: float
    most: float

    @property
    def ours(self) -> bool:
        """Whether it is to stand out."""
        return self.subject.startswith("ours")


def measured() -> tuple[dict[str, list[dict]], str]:
    """Return the results of each benchmark, and what they were taken on."""
    found: dict[str, list[dict]] = {}
    taken_on = ""
    for file in sorted((HERE / "results").glob("*peers.jsonl")):
        for line in file.read_text().splitlines():
            told = json.loads(line)
            if facts := told.get("machine"):
                taken_on = "Python {python}, {kernel}, {processors}, {day}".format(
                    **facts
                )
            else:
                found.setdefault(told["benchmark"], []).append(told)
    return found, taken_on


def bars(panel: Panel, results: list[dict]) -> list[Bar]:
    """Return what is to be drawn, the most first: it stands lowest."""
    base = panel.scale
    for told in results:
        if told["subject"] == panel.of:
            base = told["median"][panel.figure]
    found = [
        Bar(
            told["subject"],
            *(told[which][panel.figure] / base for which in ("median", "min", "max")),
        )
        for told in results
    ]
    return sorted(found, key=lambda bar: -bar.median)


def draw(axes, panel: Panel, found: list[Bar]) -> None:
    """Draw the bars, each with its spread and its number."""
    axes.barh(
        [bar.subject for bar in found],
        [bar.median for bar in found],
        xerr=[
            [bar.median - bar.least for bar in found],
            [bar.most - bar.median for bar in found],
        ],
        color=[OURS if bar.ours else THEIRS for bar in found],
        height=0.66,
        error_kw={"ecolor": INK, "elinewidth": 1},
    )
    for row, bar in enumerate(found):
        axes.annotate(
            legible(bar.median),
            (bar.most, row),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=INK,
            weight="bold" if bar.ours else "normal",
        )


def legible(value: float) -> str:
    """Return a number for people."""
    return f"{value:,.0f}" if value >= 10 or not value else f"{value:.2g}"


def frame(axes, panel: Panel, found: list[Bar]) -> None:
    """Set scale, label and limit."""
    most = max(bar.most for bar in found)
    if panel.logarithmic:
        least = min(bar.least for bar in found) / 2
        axes.set_xscale("log")
        axes.set_xlim(least, most * (most / least) ** 0.12)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    else:
        axes.set_xlim(0, most * 1.12)
        axes.set_xticks(range(int(most) + 1))
    axes.set_xlabel(panel.label + ", log scale" * panel.logarithmic, color=INK)
    axes.tick_params(which="both", length=0, colors=INK)
    axes.grid(axis="x", color=INK, alpha=0.15)
    axes.set_axisbelow(True)
    axes.spines[:].set_visible(False)
    if panel.limit:
        value, name = panel.limit
        axes.axvline(value, color=LIMIT, linewidth=1, linestyle="--")
        upright = axes.get_xaxis_transform()  # y in shares of the height
        axes.text(value, 1, f" {name}", transform=upright, color=LIMIT, va="top")


def picture(title: str, panels: list[Panel], found: dict, taken_on: str) -> Figure:
    """Return a plot of one panel or several."""
    figure = Figure(figsize=(4.6 * len(panels), 3.1), layout="constrained")
    figure.suptitle(title, color=INK, fontsize=10)
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(columns, panels, strict=True):
        shown = bars(panel, found[panel.benchmark])
        draw(axes, panel, shown)
        frame(axes, panel, shown)
    figure.supxlabel(taken_on, color=INK, alpha=0.6, fontsize=7)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a picture whose ink and paper follow the reader's scheme."""
    figure.savefig(path, transparent=True, metadata={"Date": None})
    drawn = path.read_text().replace(INK, "currentColor")
    path.write_text(drawn.replace("<defs>", f"{SCHEMES}<defs>", 1))


def main() -> None:
    """Draw what was measured."""
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "plots", "font.size": 9}
    found, taken_on = measured()
    for name, (title, *panels) in PLOTS.items():
        if all(panel.benchmark in found for panel in panels):
            save(picture(title, panels, found, taken_on), PICTURES / f"{name}.svg")
            print(f"drew .github/{name}.svg")
        else:
            print(f"nothing was measured for .github/{name}.svg")


if __name__ == "__main__":
    main()
