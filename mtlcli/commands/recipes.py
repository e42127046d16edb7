"""`mtl recipes`."""

from typing import Annotated

import typer

from mtlcli.commands import _completion
from mtlcli.commands._options import AsJson, print_json


def recipes(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show this one and what it costs; of --published, a pattern.",
            autocompletion=_completion.recipes,
        ),
    ] = None,
    published: Annotated[
        bool,
        typer.Option(
            "--published", help="What others report, by backbone, to compare with: no recipes."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List published runs, or show one with its costs.

    `mtl train --recipe NAME` does one.
    """
    from mtlcli.recipes._recipe import recipe, recipes
    from mtlcli.recipes._reported import reported
    from mtlcli.runs.recipe_tables import recipe_text, recipes_table, reported_table

    if published:
        rows = reported(name or "")
        print_json([its.to_json() for its in rows]) if as_json else print(reported_table(rows))
        return
    if not name:
        known = recipes().values()
        print_json([r.to_json() for r in known]) if as_json else print(recipes_table(known))
        return
    its = recipe(name)
    if not as_json:
        print(
            recipe_text(its), end="\n\n", flush=True
        )  # what costs are counted from takes some seconds
    from mtlcli.training.forecast import forecast_recipe

    costs = forecast_recipe(its)
    print_json(its.to_json() | {"costs": costs.to_json()}) if as_json else print(costs.text())
