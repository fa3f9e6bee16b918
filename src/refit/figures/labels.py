"""How columns, agreements and numbers are written for readers; needs no drawing library."""

import re

# Words for each agreement, with its colour, as pages have them for verdicts.
AGREEMENTS = {
    "agrees": "#0B6E4F",
    "differs": "#B3261E",
    "too few seeds": "#7D6200",
    "not judged here": "#8A939E",
}


def label(column: str, part: str = "validation") -> str:
    """A table's column as the label of an axis, with the unit unless its words name it."""
    words = re.sub(r"^(?!fine_tuning)[a-z]\w*\.(?=\w)", "", column)
    words = words.replace("fine_tuning.", "fine tuning ").replace("_", " ").removeprefix("model ")
    words = (
        words.replace("val ", f"{part} ").replace("seconds", "time").replace("params", "parameters")
    )
    words = re.sub(r"(?<=[a-z])(\d)$", r" \1", re.sub("^min ", "lowest ", words))
    if words.endswith(" epoch"):
        return f"epoch of {words.removesuffix(' epoch')}"
    if words.endswith(("loss", "entropy")):
        return f"{words} (nats)"
    return f"{words} (s)" if "seconds" in column else words


def amount(value: float, digits: int = 3) -> str:
    """A number with the digits that a reader compares: 0.871, 47.9, 12,345, 1e-06."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"
