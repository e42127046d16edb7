"""Scores in the layout of the paper's tables: system, backbone, one column per task, Delta%."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mtlcli.runs.table import markdown, number

GAIN = "gain"  # its column
SPECIAL = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
SYMBOLS = {"°": r"$^\circ$", "Δ": r"$\Delta$", "λ": r"$\lambda$", "±": r"$\pm$", "×": r"$\times$"}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A task's main score."""

    task: str
    metric: str
    unit: str  # "" for a fraction
    higher_is_better: bool

    @property
    def arrow(self) -> str:
        """Which way is better."""
        return "↑" if self.higher_is_better else "↓"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One system's scores."""

    system: str  # as papers write it
    backbone: str
    origin: str  # name of the run, or who published it
    scores: Mapping[str, float | None]  # task -> main score
    gain: float | None = None  # percent
    against: str = ""  # what the gain is against
    is_run: bool = True  # measured here, not published
    is_reference: bool = False  # what gains of others are against
    pictures: str = ""  # names what it was scored on; only the same can be compared


@dataclass(frozen=True, kw_only=True)
class Table:
    """Systems that were scored on one dataset; rows of one backbone belong together."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    notes: Sequence[str] = ()  # what a reader must know to read it right
    warning: str = ""  # what a reader must not compare

    @property
    def has_gains(self) -> bool:
        """Whether any row has a gain."""
        return any(row.gain is not None for row in self.rows)

    def groups(self) -> list[list[int]]:
        """Places of the rows of each backbone, in order of appearance."""
        backbones = dict.fromkeys(row.backbone for row in self.rows)
        return [[i for i, r in enumerate(self.rows) if r.backbone == b] for b in backbones]

    def names(self) -> list[str]:
        """Each row's system, with the origin where that alone would not tell it."""
        count = Counter((row.system, row.backbone) for row in self.rows)
        return [
            f"{row.system} ({row.origin}{', reference' if row.is_reference else ''})"
            if count[row.system, row.backbone] > 1 or not row.is_run or row.is_reference
            else row.system
            for row in self.rows
        ]


def cells(table: Table, row: Row) -> dict[str, str]:
    """Task or `GAIN` -> what is printed; a dash where there is no value."""
    printed = {
        c.task: number(math.nan if (v := row.scores.get(c.task)) is None else v, c.unit)
        for c in table.columns
    }
    if table.has_gains:
        printed[GAIN] = "-" if row.gain is None else f"{row.gain:+.2f}"
    return printed


def best(table: Table, group: Sequence[int]) -> set[tuple[int, str]]:
    """(place of the row, column) of the best printed values among rows of one backbone that were
    scored on the same pictures.

    A value that nothing is compared with is not best; gains compete if against the same reference.
    """
    together: dict[str, list[int]] = {}
    for i in group:
        together.setdefault(table.rows[i].pictures, []).append(i)
    return {cell for members in together.values() for cell in best_of(table, members)}


def best_of(table: Table, group: Sequence[int]) -> set[tuple[int, str]]:
    """The same of rows that can be compared."""
    directions = {c.task: c.higher_is_better for c in table.columns}
    rows = [table.rows[i] for i in group]
    if table.has_gains and len({r.against for r in rows if r.gain is not None}) == 1:
        directions[GAIN] = True
    found = set()
    for column, higher in directions.items():
        printed = {i: cells(table, table.rows[i])[column] for i in group}
        values = {i: float(text) for i, text in printed.items() if text != "-"}
        if len(values) > 1:
            top = (max if higher else min)(values.values())
            found |= {(i, column) for i, value in values.items() if value == top}
    return found


def as_markdown(table: Table) -> str:
    """GitHub's Markdown, the best of each backbone in bold."""
    head = ["system", "backbone", *(f"{c.task} {c.metric} {c.arrow}" for c in table.columns)]
    head += ["Δ% ↑"] if table.has_gains else []
    names, rows = table.names(), []
    for group in table.groups():
        bold = best(table, group)
        for i in group:
            values = [
                f"**{text}**" if (i, column) in bold else text
                for column, text in cells(table, table.rows[i]).items()
            ]
            rows.append([plain(names[i]), plain(table.rows[i].backbone), *values])
    notes = "".join(f"\n- {plain(note)}" for note in table.notes)
    warning = f"**{plain(table.warning)}**\n\n" if table.warning else ""
    whole = f"**{plain(table.title)}**\n\n{warning}{markdown(head, rows, left=2)}\n{notes}"
    return whole.rstrip()


def plain(text: str) -> str:
    """Text without a meaning in a Markdown table."""
    return re.sub(r"([\\`*<|\[\]])", r"\\\1", " ".join(text.split()))


def as_latex(table: Table) -> str:
    r"""A `table` environment with booktabs' rules, the best of each backbone in bold."""
    columns = [f"{tex(c.task)} {tex(c.metric)} {direction(c)}" for c in table.columns]
    columns += [r"$\Delta\%\uparrow$"] if table.has_gains else []
    head = " & ".join(["system", "backbone", *columns])
    caption = f"{table.title}. The best of each backbone in bold. {table.warning}".strip()
    blocks = ["\n".join(latex_rows(table, group)) for group in table.groups()]
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"  \centering",
        rf"  \caption{{{tex(caption)}}}",
        rf"  \begin{{tabular}}{{ll{'r' * len(columns)}}}",
        r"    \toprule",
        rf"    {head} \\",
        r"    \midrule",
        "\n    \\midrule\n".join(blocks),
        r"    \bottomrule",
        r"  \end{tabular}",
        r"\end{table}",
        *(f"% {' '.join(note.split())}" for note in table.notes),
    ]
    return "\n".join(lines)


def latex_rows(table: Table, group: Sequence[int]) -> list[str]:
    """The lines of one backbone."""
    names, bold, lines = table.names(), best(table, group), []
    for i in group:
        row = table.rows[i]
        values = [
            latex_value(text, (i, column) in bold) for column, text in cells(table, row).items()
        ]
        lines.append("    " + " & ".join([tex(names[i]), tex(row.backbone), *values]) + r" \\")
    return lines


def latex_value(text: str, is_best: bool) -> str:
    """A number with a real minus sign, bold where it is the best."""
    if text == "-":
        return "--"
    signed = text.replace("-", "$-$").replace("+", "$+$")
    return rf"\textbf{{{signed}}}" if is_best else signed


def direction(column: Column) -> str:
    """The arrow of a heading."""
    return r"$\uparrow$" if column.higher_is_better else r"$\downarrow$"


def tex(text: str) -> str:
    """Text without a meaning in LaTeX."""
    spaced = " ".join(text.split())
    known = {**SPECIAL, **SYMBOLS, **{c: f"\\{c}" for c in "&%$#_{}"}}
    return "".join(known.get(character, character) for character in spaced)
