"""The known name that is most like a mistyped one, for "Did you mean ...?"."""

import difflib
from collections.abc import Iterable


def likeness(given: str, known: str) -> float:
    """Share of the characters that two names have in common, in order; in [0, 1]."""
    return difflib.SequenceMatcher(None, given, known).ratio()


def nearest(given: str, known: Iterable[str]) -> str:
    """The known name most like `given`."""
    return max(known, key=lambda name: likeness(given, name))


def nearest_key(given: str, keys: Iterable[str]) -> str:
    """The dotted key most like `given`; without a dot it is compared with bare names too."""

    def like(key: str) -> float:
        bare = key if "." in given else key.rpartition(".")[2]
        return max(likeness(given, key), likeness(given, bare))

    return max(keys, key=like)
