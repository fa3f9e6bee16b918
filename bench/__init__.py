"""How fast refit is, beside the usual ways, on this machine: `make bench` writes reports/bench.md.

One module per measurement. Every timing is of a process of its own, and the ways that are compared
take turns, so that whatever else the machine does hits all of them.
"""
