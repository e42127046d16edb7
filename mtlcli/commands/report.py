"""`mtl report`."""

from pathlib import Path
from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, Device, Force, Quiet, Reference, complain, print_json
from mtlcli.errors import InputError

PAGE = Path("report.html")


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            help="Names or folders of runs, or a folder of runs.",
            metavar="RUN...",
            autocompletion=_completion.runs,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="File to write. [default: report.html; tables: stdout]")
    ] = None,
    reference: Reference = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Only tables, as Markdown.")] = False,
    latex: Annotated[bool, typer.Option("--latex", help="Only tables, as LaTeX.")] = False,
    force: Force = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Put runs on one page, or print their table.

    The page has scores, curves, pictures, costs and settings, and fetches nothing.
    """
    from mtlcli.report import assemble as reporting
    from mtlcli.runs.names import pin

    if markdown + latex + as_json > 1:
        raise InputError("--markdown, --latex and --json exclude each other: choose one.")
    form = "latex" if latex else "markdown" if markdown else "html"
    out = out or (PAGE if form == "html" else None)
    if out:
        reporting.require_place(out, force)
    against = pin(reference, quiet=quiet) if reference else None
    found = reporting.gather([pin(run, quiet=quiet) for run in runs], reference=against)
    if form == "html":
        reporting.add_networks(found, device=device, quiet=quiet)
        text = reporting.as_page(found)
    else:
        text = reporting.as_text(found, form)
    if out:
        reporting.write(text, out, form)
    if as_json:
        print_json(found.to_json() | {"page": str(out)})
    else:
        print(f"{out} ({len(text.encode(errors='replace')) / 1e3:,.0f} kB)" if out else text)
    for lack in found.lacks:
        complain(lack)
