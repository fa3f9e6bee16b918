"""The README: its table is what the pages of record say, and its words are few.

`python -m tests.test_readme` writes the table anew.
"""

import re

import pytest

from refit import paths
from refit.experiments import expand
from refit.files import read_object
from refit.verdicts import words

README = paths.ROOT / "README.md"
RECORD = paths.ROOT / "reports" / "full"
BEGIN, END = (f"<!-- results of record: {place} -->\n" for place in ("begin", "end"))
MOST_WORDS = 1200


def table() -> str:
    """Trainings and verdicts of every experiment, as the committed pages count them."""
    judged = read_object(RECORD / "verdicts.json")["claims"]
    lines = [
        f"| experiment | trained | {' | '.join(words.CLAIMS.values())} |",
        f"|---|---|{'---|' * len(words.CLAIMS)}",
    ]
    for name in expand.names():
        entry = read_object(RECORD / name / "page.json")
        counts = judged.get(name, {words.NOT_JUDGED: len(expand.load(name).claims)})
        trained = f"{entry['trials_done']} of {entry['trials_total']}" if entry else "not yet"
        named = f"[{name}](reports/full/{name}.html)" if entry else name
        cells = [str(counts.get(verdict, 0)) for verdict in words.CLAIMS]
        lines.append(f"| {named} | {trained} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def parts() -> tuple[str, str, str]:
    before, _, rest = README.read_text(encoding="utf-8").partition(BEGIN)
    between, _, after = rest.partition(END)
    return before, between, after


def test_results_are_those_of_the_pages_of_record():
    assert parts()[1] == table()


def test_readme_is_short_and_its_links_lead_somewhere():
    text = README.read_text(encoding="utf-8")
    assert len(text.split()) <= MOST_WORDS
    for link in re.findall(r"\]\(([^)#]+)\)", text):
        assert link.startswith("https://") or (paths.ROOT / link).exists(), link


@pytest.mark.parametrize("page", sorted((paths.ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_of_the_documentation_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
        assert link.startswith("https://") or (page.parent / link).exists(), link


if __name__ == "__main__":
    before, _, after = parts()
    README.write_text(before + BEGIN + table() + END + after, encoding="utf-8")
