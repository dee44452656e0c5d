"""The errors and warnings of Kyori.

```
KyoriError
├── ArgumentError (ValueError)      an argument has the wrong shape, range or name
│   └── ConfigError                 a configuration has an unknown key or a wrong value
├── DataError (ValueError)          a data set cannot be used as it is
│   └── ItemError                   one item of it cannot be read (carries the path)
├── FileFormatError (ValueError)    a file written by Kyori or for it is damaged or of another kind
├── MissingExtraError (ImportError) an optional package is not installed
├── TrainingError (RuntimeError)    training cannot go on (NaN, nothing to learn from)
│   └── RankError                   another process of the job failed, which tells why itself
└── Interrupted                     stopped by Ctrl-C after everything was saved

KyoriWarning (UserWarning)
├── DataWarning                     items were skipped or are suspicious
├── DegenerateWarning               a batch or a measure has nothing to work on
└── TrainingWarning                 training goes on but will probably not end well
```
Each message says which argument, what was expected (with numbers), what came, and what to do next.
"""

import difflib
from collections.abc import Iterable

__all__ = [
    "ArgumentError",
    "ConfigError",
    "DataError",
    "DataWarning",
    "DegenerateWarning",
    "FileFormatError",
    "Interrupted",
    "ItemError",
    "KyoriError",
    "KyoriWarning",
    "MissingExtraError",
    "RankError",
    "TrainingError",
    "TrainingWarning",
    "nearest_name",
]


class KyoriError(Exception):
    """Any error that Kyori raises on purpose."""


class ArgumentError(KyoriError, ValueError):
    """An argument has the wrong shape, range or name."""


class ConfigError(ArgumentError):
    """A configuration has an unknown key or a wrong value."""


class DataError(KyoriError, ValueError):
    """A data set cannot be used as it is."""


class ItemError(DataError):
    """One item of a data set cannot be read."""

    def __init__(self, item: str, reason: str):
        super().__init__(f"{item}: {reason}")
        self.item = item
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # crosses the border of a data worker
        return type(self), (self.item, self.reason)


class FileFormatError(KyoriError, ValueError):
    """A file written by Kyori or for it is damaged or of another kind."""


class MissingExtraError(KyoriError, ImportError):
    """An optional package is not installed."""


class TrainingError(KyoriError, RuntimeError):
    """Training cannot go on."""


class RankError(TrainingError):
    """Another process of the job failed; it tells why itself."""


class Interrupted(KyoriError):  # noqa: N818 (it is no error: the user wanted it)
    """Work was stopped by the user after everything was saved; the message says how to go on."""


class KyoriWarning(UserWarning):
    """Any warning that Kyori gives."""


class DataWarning(KyoriWarning):
    """Items were skipped or are suspicious."""


class DegenerateWarning(KyoriWarning):
    """A batch or a measure has nothing to work on."""


class TrainingWarning(KyoriWarning):
    """Training goes on but will probably not end well."""


def nearest_name(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest known name, or the list of them.

    >>> nearest_name("tripplet", ["triplet", "arcface"])
    "; did you mean 'triplet'?"
    >>> nearest_name("zzz", ["triplet", "arcface"])
    '; known: arcface, triplet'
    """
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"
