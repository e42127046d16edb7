"""`python -m mtlcli ...` does what `mtl ...` does."""

from mtlcli.cli import main

main()
