"""Errors that a user can mend: the command line prints their sentence instead of a traceback."""


class RefitError(Exception):
    """Base of all errors whose message tells the user what is wrong and what would be right."""


class DeclarationError(RefitError):
    """An experiment file, or a parameter that selects from it, is wrong."""


class DataError(RefitError):
    """A data set is missing, damaged or not what it should be."""


class TrialError(RefitError):
    """A training could not be finished or its run directory cannot be read."""


class ReportError(RefitError):
    """A notebook or a page could not be made."""


class UnavailableError(RefitError):
    """Something optional is missing or broken on this machine, so a part cannot be run here."""
