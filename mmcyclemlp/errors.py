"""Errors a user can mend; the tools print them as one sentence, without a traceback."""


class InputError(ValueError):
    """Wrong input; the message says what was expected, what came, and what to do."""


class MissingDependencyError(InputError, ImportError):
    """A package is missing or outside its tested versions; the message holds the command."""
