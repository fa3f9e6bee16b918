"""`python -m refit` is `refit`."""

from refit.cli import main

main(prog_name="refit")
