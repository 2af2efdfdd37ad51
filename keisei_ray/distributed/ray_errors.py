"""Errors that Ray raises, turned into errors of this program that say what to do. No Ray here."""

import os
import re
import tempfile
from typing import Any

from keisei_ray.distributed.versions import missing_package, own_versions
from keisei_ray.errors import ClusterError, UserError

_RECORDED = re.compile(r"Ray: (\S+)\s+Python: (\S+)")


def explain_refusal(address: str, error: BaseException, stderr: str) -> str:
    """Returns Ray's refusal as one line that says what to do.

    Args:
        address: the address to be joined, or `local`.
        error: the exception of `ray.init`.
        stderr: text that Ray wrote to the standard error meanwhile.
    """
    what = " ".join(str(error).split()) or type(error).__name__
    if (recorded := _RECORDED.search(what)) and "Version mismatch" in what:
        own = own_versions()
        return (
            f"the cluster at {address} runs Ray {recorded[1]} on Python {recorded[2]}, expected "
            f"what this process runs: Ray {own.ray}, Python {own.python}. Install the same in both "
            "places; where only the last number of Python differs, "
            "RAY_DEFAULT_PYTHON_VERSION_MATCH_LEVEL=minor lets it pass."
        )
    if "InvalidAuthToken" in stderr:
        what = "Authentication token is missing or incorrect."
    text = what.lower()
    if address == "local" and (todo := _directory_remedy(error, text)):
        pass
    elif "token" in text or "authentication" in text:
        what = what.partition(" Ensure that")[0]
        todo = (
            "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's "
            "token."
        )
    elif "dashboard" in text:
        todo = "Set cluster.dashboard_port to a free port, or cluster.dashboard=false."
    elif "timed out" in text:
        todo = "The machine may be overloaded: try again when it has less to do."
    elif address == "local":
        todo = (
            "If an earlier Ray was killed here, run `ray stop`; to join a running cluster set "
            "cluster.address."
        )
    else:
        todo = "Check cluster.address (or RAY_ADDRESS), and that the cluster is up."
    where = "start here" if address == "local" else f"join the cluster at {address}"
    return f"Ray did not {where}: {what[:400]} {todo}"


def _directory_remedy(error: BaseException, text: str) -> str:
    """Returns what to do if a directory that Ray needs is the trouble; else an empty text.

    Args:
        error: the exception of `ray.init`.
        text: its message in small letters.
    """
    if "af_unix path" in text:
        return (
            "The path of Ray's directory for temporary files is too long for its sockets, which "
            "may have 107 bytes: set RAY_TMPDIR to a short one, such as /tmp."
        )
    if not isinstance(error, OSError) or not error.filename:
        return ""
    path, home = str(error.filename), os.path.expanduser("~")
    is_temporary = path.startswith(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if path.startswith(home) and not is_temporary:
        return (
            "Ray keeps its token in the home directory: set HOME to a directory that can be "
            "written, or RAY_AUTH_TOKEN_PATH to a file with a token."
        )
    return (
        "Ray needs a directory for temporary files that this user can write: set RAY_TMPDIR to "
        "one, with a short path."
    )


def remote_cause(error: BaseException) -> BaseException:
    """Returns the exception that an actor raised, taken out of Ray's wrapping.

    Args:
        error: as Ray raises it for a call of an actor.

    Returns:
        A `ClusterError` where the actor's node lacks a package, or the cluster does not accept the
        driver's token: a restart cannot help then. `error` itself if it wraps no exception.
    """
    cause: Any = getattr(error, "cause", None)
    if isinstance(cause, UserError):
        return cause
    explained = missing_package(error) or _unexpected_token(error)
    return explained or (cause if isinstance(cause, BaseException) else error)


def _unexpected_token(error: BaseException) -> ClusterError | None:
    """Recognises a token that is used against a cluster without token authentication.

    Ray lets such a driver join, but cannot ask it which actors it still uses, and so ends them.

    Args:
        error: as Ray raises it for an actor.

    Returns:
        The error to raise instead, or None if `error` is about something else.
    """
    text = str(error)
    if "all references to the actor were removed" not in text or "never ran" not in text:
        return None
    return ClusterError(
        "the cluster has given up an actor that this process still wants, as it does where a token "
        "is used against a cluster without token authentication. Start the cluster with "
        "RAY_AUTH_MODE=token and the same token, or set RAY_AUTH_MODE=disabled here."
    )
