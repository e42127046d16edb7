"""`mtl experiment`."""

from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, Device, Quiet, print_json


def experiment(
    name: Annotated[
        str | None,
        typer.Argument(help="None: list those there are.", autocompletion=_completion.experiments),
    ] = None,
    cell: Annotated[list[str] | None, typer.Option(help="Only this cell; repeatable.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Only this seed; repeatable.")] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs side by side; default: one per GPU, or 1.")
    ] = None,
    costs: Annotated[
        bool,
        typer.Option("--costs", help="Measure what each cell costs, too."),
    ] = False,
    table_only: Annotated[
        bool, typer.Option("--table", help="Run nothing, only show what is done.")
    ] = False,
    device: Device = "auto",
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Compare systems over seeds under one budget; resumes."""
    from mtlcli import lookup
    from mtlcli.errors import InputError

    if name is None:
        if cell or seed:
            raise InputError("--cell and --seed are of an experiment: name it.")
        found = {n: lookup.load("experiments", n).EXPERIMENT for n in lookup.names("experiments")}
        if as_json:
            print_json({n: {"title": its.title, "extent": its.extent, "prepare": its.prepare,
                            "cells": list(its.cells)} for n, its in found.items()})  # fmt: skip
            return
        for known, its in found.items():
            print(f"{known}: {its.title} ({its.extent}; `{its.prepare}`)")
        return
    from mtlcli.experiments._grid import collect, conduct, measure_costs, plan
    from mtlcli.experiments._intervals import tell_apart
    from mtlcli.experiments._table import table

    plan(name, cell or (), seed or ())  # refuses cells that there are not
    if not table_only:
        conduct(name, labels=cell or (), seeds=seed or (), jobs=jobs, device=device, quiet=quiet)
    if costs:
        measure_costs(name, device)
    record = collect(name, cell or (), seed or ())
    if as_json:
        print_json(record)
    else:
        said = (record["title"], table(record), tell_apart(record))
        print("\n\n".join(filter(None, said)))
