"""Errors that a user can mend: the command line prints their sentence instead of a traceback."""

import re

# Control characters but line feeds, halves of a character as of names that are not UTF-8, and marks
# that separate lines or turn the direction of what follows.
ILLEGIBLE = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]"
)


def legible(text: str) -> str:
    """A text for people: what would act on a terminal or page, rather than be read, is escaped."""
    return ILLEGIBLE.sub(lambda found: ascii(found[0])[1:-1], text)


class RefitError(Exception):
    """Base of all errors whose message tells the user what is wrong and what would be right."""

    def __str__(self) -> str:
        return legible(super().__str__())


class DeclarationError(RefitError):
    """An experiment file, or a parameter that selects from it, is wrong."""


class DataError(RefitError):
    """A data set is missing, damaged or not what it should be."""


class TrialError(RefitError):
    """A training could not be finished or its run directory cannot be read."""


class ReportError(RefitError):
    """A notebook or a page could not be made."""


class PackError(RefitError):
    """A file of carried results is damaged, is none, or holds what refit does not write."""


class UnavailableError(RefitError):
    """Something optional is missing or broken on this machine, so a part cannot be run here."""
