"""HTML and SVG from elements: text is escaped, unless it is markup already."""

import html
from collections.abc import Iterable

VOID = {"img", "link", "meta", "wbr"}  # elements without an end


class Html(str):
    """Finished markup, which is not escaped again."""


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """One element.

    Args:
        name: of the element.
        children: `Html` stays as it is, None is left out, anything else is escaped text.
        attributes: `class_` is class, `stroke_width` is stroke-width; None is left out.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    start = f"<{name}{written}>"
    return Html(start if name in VOID else f"{start}{together(children)}</{name}>")


def together(children: Iterable[object]) -> Html:
    """Children one after the other."""
    return Html("".join(map(escaped, children)))


def escaped(child: object) -> str:
    """A child as markup."""
    if child is None:
        return ""
    return child if isinstance(child, Html) else html.escape(str(child))
