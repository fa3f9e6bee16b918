"""The index over all pages of one profile: what was found in all, then a card for every report."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from refit import files
from refit.pages import claim_items
from refit.pages.claim_items import ClaimItem
from refit.pages.page import PageEntry
from refit.pages.tables import table
from refit.pages.templating import page, trusted
from refit.run_directory.directory import PAGE
from refit.verdicts import claims, scoreboard, words
from refit.verdicts.scoreboard import CLAIMS_FILE

FILE = "index.html"
PROFILES = {
    "smoke": "Demonstration: a few trials of every report on embedded images, trained briefly. It"
    " shows that everything runs and says nothing about the reports.",
    "small": "Small scale: the real images, cut down so that a report takes an hour or two on a"
    " laptop. It shows what looks like the reports and what does not, and gives no verdict.",
}
TITLES = {
    "smoke": "Do the reports hold? A demonstration",
    "small": "Do the reports hold? A look at small scale",
    "full": "Do the reports hold?",
}
MOST_FINDINGS = 5


def write(folder: Path) -> Path:
    """Write folder/index.html over all recorded pages, of this run and of earlier ones.

    The folder's name is the profile. A record that cannot be read gets a card that says so. The
    counts of verdicts are also stored, for programs, as verdicts.json and .csv.
    """
    folder = Path(folder)
    scoreboard.collect(folder).save(folder)
    index = folder / FILE
    files.write_bytes(index, html(folder).encode())
    return index


def html(folder: Path) -> str:
    """The index of a folder of pages, from what is recorded there."""
    cards, damaged, items = [], [], {}
    for path in sorted(folder.glob(f"*/{PAGE}")):
        try:
            entry = TypeAdapter(PageEntry).validate_python(files.read_json(path))
        except ValidationError:
            damaged.append(str(path.relative_to(folder)))
            continue
        items[entry.name] = _items(path.parent)
        cards.append(_card(entry, items[entry.name]))
    verdicts = [item.verdict for found in items.values() for item in found]
    board = scoreboard.collect(folder)
    numbers = board.figures.rename(columns=words.FIGURES)
    shown = {"Published numbers by verdict": numbers, "What it cost": board.cost}
    return page(
        "index.html.j2",
        title=TITLES.get(folder.name, f"Profile {folder.name}"),
        explanation=PROFILES.get(folder.name, ""),
        sentence=claim_items.sentence(verdicts),
        shares=claim_items.shares(verdicts),
        findings=_findings(items),
        cards=cards,
        damaged=damaged,
        tables=[trusted(table(each, name).data) for name, each in shown.items() if len(each)],
    )


def _items(folder: Path) -> list[ClaimItem]:
    """The judged claims beside a page; none where nothing was judged yet."""
    path = folder / CLAIMS_FILE
    if not path.exists():
        return []
    return claim_items.items(scoreboard.read_table(path, claims.COLUMNS))


def _card(entry: PageEntry, items: list[ClaimItem]) -> dict[str, Any]:
    verdicts = [item.verdict for item in items]
    complete = entry.trials_done == entry.trials_total
    state = "failed" if entry.status == "failed" else "" if complete else "incomplete"
    return asdict(entry) | {
        "sentence": claim_items.sentence(verdicts),
        "shares": claim_items.shares(verdicts),
        "duration": _duration(entry.seconds),
        "state": state,
    }


def _findings(items: dict[str, list[ClaimItem]]) -> list[tuple[str, ClaimItem]]:
    """The most certain contradictions, then confirmations, of all reports; headlines first."""
    told = [
        (name, item)
        for name, found in items.items()
        for item in found
        if item.tone in ("yes", "no")
    ]
    told.sort(key=lambda pair: (pair[1].weight != "headline", pair[1].certainty))
    against = [pair for pair in told if pair[1].tone == "no"][: MOST_FINDINGS - 2]
    confirmed = [pair for pair in told if pair[1].tone == "yes"]
    return against + confirmed[: MOST_FINDINGS - len(against)]


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "time unknown"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
