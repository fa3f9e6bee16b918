"""The index over all pages of one profile: what was found in all, then a card for every report."""

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
HOURS = {"hours": ".2f"}
MOST_FINDINGS = 5


def write(folder: Path) -> Path:
    """Write folder/index.html over all recorded pages, of this run and of earlier ones.

    The folder's name is the profile. A record that cannot be read gets a card that says so. The
    counts of verdicts are also stored, for programs, as verdicts.json and .csv.
    """
    scoreboard.collect(folder).save(folder)
    index = folder / FILE
    files.write_bytes(index, html(folder).encode())
    return index


def html(folder: Path) -> str:
    """The index of a folder of pages, from what is recorded there."""
    cards, damaged, every = [], [], []
    titles: dict[str, str] = {}
    for path in sorted(folder.glob(f"*/{PAGE}")):
        try:
            entry = TypeAdapter(PageEntry).validate_python(files.read_json(path))
        except ValidationError:
            damaged.append(str(path.relative_to(folder)))
            continue
        judged = path.with_name(CLAIMS_FILE)
        found = scoreboard.read_table(judged, claims.COLUMNS) if judged.exists() else None
        items = [] if found is None else claim_items.items(found, f"{entry.name}.html", entry.title)
        cards.append(_card(entry, items))
        titles[entry.name] = entry.title
        every += items
    board = scoreboard.collect(folder)
    numbers = board.figures.rename(columns=words.FIGURES)
    shown = (numbers, "Published numbers by verdict", {}), (board.cost, "What it cost", HOURS)
    against = claim_items.strongest(every, "no")[: MOST_FINDINGS - 2]
    confirmed = claim_items.strongest(every, "yes")[: MOST_FINDINGS - len(against)]
    return page(
        "index.html.j2",
        title=TITLES.get(folder.name, f"Profile {folder.name}"),
        explanation=PROFILES.get(folder.name, ""),
        sentence=claim_items.sentence(every),
        shares=claim_items.shares(every),
        findings=against + confirmed,
        cards=sorted(cards, key=lambda card: -card["decided"]),
        damaged=damaged,
        tables=[
            trusted(table(each.replace({"experiment": titles}), name, form, stacked=True).data)
            for each, name, form in shown
            if len(each)
        ],
    )


def _card(entry: PageEntry, items: list[ClaimItem]) -> dict[str, Any]:
    complete = entry.trials_done == entry.trials_total
    state = "failed" if entry.status == "failed" else "" if complete else "incomplete"
    return asdict(entry) | {
        "sentence": claim_items.sentence(items),
        "shares": claim_items.shares(items),
        "decided": sum(item.tone in ("yes", "no") for item in items),
        "duration": _duration(entry.seconds),
        "state": state,
    }


def _duration(seconds: float) -> str:
    for unit, size, most in (("s", 1, 90), ("min", 60, 5400)):
        if seconds < most:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 3600:.1f} h"
