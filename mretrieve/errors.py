"""Errors that a user can mend: one sentence on what was wrong, where, and what to do."""


class InputError(ValueError):
    """Something given by the user cannot be used; the command line exits with status 2."""


class MissingDependencyError(ImportError):
    """An optional part is not installed; the message holds the command that installs it."""
