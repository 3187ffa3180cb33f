"""What storage refuses, each as one sentence that says what to do."""

from __future__ import annotations


class StorageError(Exception):
    """Something storage cannot do; the message is one sentence for the user."""


class Transient(StorageError):
    """What may pass by itself or be mended meanwhile: in a moment the same may work."""


class DatabaseBusy(Transient):
    """The database stayed locked longer than the busy timeout."""


class DatabaseAway(Transient):
    """The database's server cannot be reached, or went away in the middle of the work."""


class DiskFull(Transient):
    """No space left for the database or a file; what was acknowledged is intact."""


class NewerSchema(StorageError):
    """The database was written by a newer version of the program."""


class NotFound(StorageError, LookupError):
    """No row has this id."""


class InvalidInput(StorageError, ValueError):
    """A value that cannot be stored."""


class HeldOutPrompt(InvalidInput):
    """A pair was asked for on a prompt that is kept for comparisons."""


class KeyReused(InvalidInput):
    """An idempotency key came back with another content."""


class AlreadyChosen(InvalidInput):
    """This annotator already has a live choice on this pair."""


class NothingToTrain(InvalidInput):
    """A round would have no clear choice or tie on a training prompt."""


class IllegalTransition(StorageError):
    """The round is in a state from which this change is not allowed."""


class StaleAttempt(StorageError):
    """A later attempt has taken the round over, or it has ended; this process must stop."""
