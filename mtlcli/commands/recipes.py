"""`mtl recipes`."""

from mtlcli.commands._options import AsJson, print_json


def recipes(as_json: AsJson = False) -> None:
    """List the runs whose results are published.

    `mtl train --recipe NAME` does one.
    """
    from mtlcli.recipes._recipe import recipes

    known = recipes().values()
    if as_json:
        print_json([recipe.to_json() for recipe in known])
        return
    from mtlcli.runs.comparison import recipes_table

    print(recipes_table(known))
