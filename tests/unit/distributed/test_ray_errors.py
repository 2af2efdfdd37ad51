"""Ray's errors in the words of this program; no cluster is started."""

import errno

import pytest
from ray._private.utils import check_version_info

from keisei_ray.distributed.ray_errors import explain_refusal, remote_cause
from keisei_ray.distributed.versions import own_versions
from keisei_ray.errors import ClusterError


def test_a_cluster_of_other_versions_is_one_line_with_both() -> None:
    """In Ray's own words, as it raises them in `ray.init`."""
    with pytest.raises(RuntimeError) as caught:
        check_version_info({"ray_version": "2.1.0", "python_version": "3.9.1"}, "node 192.0.2.2")
    assert len(str(caught.value).splitlines()) > 3
    line = explain_refusal("192.0.2.1:6379", caught.value, "")
    own = own_versions()
    assert "\n" not in line
    assert "the cluster at 192.0.2.1:6379 runs Ray 2.1.0 on Python 3.9.1" in line
    assert f"Ray {own.ray}, Python {own.python}" in line


def test_what_ray_says_of_tokens_is_cut_to_what_is_wrong() -> None:
    said = RuntimeError("Token not found.\nEnsure that the token is in a file. To generate a token")
    line = explain_refusal("x:1", said, "")
    assert line.startswith(
        "Ray did not join the cluster at x:1: Token not found. Set RAY_AUTH_MODE"
    )


@pytest.mark.parametrize(
    ("error", "todo"),
    [
        (
            OSError("validate_socket_filename failed: AF_UNIX path length cannot exceed 107 bytes"),
            "may have 107 bytes: set RAY_TMPDIR to a short one, such as /tmp.",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", "/scratch/ray"),
            "that this user can write: set RAY_TMPDIR to one, with a short path.",
        ),
        (
            OSError(errno.EROFS, "Read-only file system", "/home/user/.ray/auth_token"),
            "set HOME to a directory that can be written, or RAY_AUTH_TOKEN_PATH to a file",
        ),
        (RuntimeError("Failed to start the GCS"), "If an earlier Ray was killed here, run"),
    ],
)
def test_a_directory_that_ray_cannot_use_is_told_from_a_ray_that_was_killed(
    error: Exception, todo: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/user")
    monkeypatch.setenv("RAY_TMPDIR", "/scratch")
    assert todo in explain_refusal("local", error, "")


def test_a_token_that_the_cluster_does_not_use_is_told_from_other_deaths() -> None:
    """As Ray 2.60 words it where a driver with a token asks a cluster without for an actor."""
    words = [
        "The actor died unexpectedly before finishing this task.",
        "The actor is dead because all references to the actor were removed including lineage ref "
        "count.",
        "The actor never ran - it was cancelled before it started running.",
    ]
    error = remote_cause(Exception("\n".join(words)))
    assert isinstance(error, ClusterError)
    assert "RAY_AUTH_MODE=disabled" in str(error)
    assert not isinstance(remote_cause(Exception("\n".join(words[:2]))), ClusterError)
