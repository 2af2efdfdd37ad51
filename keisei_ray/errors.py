"""Errors that users and callers may see. Those that only the driver sees: `learner_handle.py`.

    KeiseiError
    |-- UserError                   exit code 2
    |   |-- ConfigError             a setting or an option of the command line
    |   |-- RunDirError             a directory on this machine: the run's, or one of results
    |   |   |-- RunDirLostError     the run's directory was moved or deleted
    |   |   `-- TakenOverError      another process writes to the run now
    |   |-- StorageError            a URI and what is stored there
    |   |-- CheckpointError         a checkpoint, or weights of another architecture
    |   |   |-- RefusedStateError   a checkpoint that verifies and that its learner refuses
    |   |   `-- UnreadableCheckpointError  a checkpoint that may be intact and cannot be read
    |   |-- ClusterError            Ray: starting it, joining it, its resources
    |   |-- RecordsError            game records that hold nothing to learn from
    |   |-- PositionError             a position, or a move in it, that no game can have
    |   |-- PlayerError             a player that matches or the pool need
    |   |   |-- EngineDiedError     a USI engine that ended
    |   |   `-- EngineTimeoutError  a USI engine that did not answer in time
    |   |-- NumericalError          training that gives numbers that are not finite
    |   |-- DeviceMemoryError       a GPU or a machine whose memory does not suffice
    |   |-- TrackerError            a tracker that is not installed or not logged in
    |   |-- ExportError             a network that cannot be written in a format
    |   `-- BenchmarkError          a benchmark's run, its directory, or a GPU that is not there
    |-- WireError                   a packed buffer that must not be used
    |   |-- DamagedBufferError      truncated or changed
    |   |-- ForeignBufferError      something else, or of another kind
    |   |-- NewerSchemaError        written by a newer version of this program
    |   |-- RolloutFormatError      its content is not a valid rollout
    |   `-- RejectedRolloutsError   some buffers of an update are one of the above
    |-- PolicyLagError              exit code 1, as all below: a rollout that is too old
    |-- EmptyUpdateError            an update without a ply to learn from
    |-- PeerLostError               another of several learners that is gone
    `-- ActorLostError              an actor that died too often

Exit codes of the command line (`cli.main`): 0 done; 2 for a UserError, which is printed as one line
without a traceback, and which the user can put right; 130 interrupted, 129 by a SIGHUP; 1 for every
other exception, with its traceback: a failure that the user cannot be expected to foresee. Only a
RejectedRolloutsError is counted and does not end the run; another WireError of the learner ends it.

Messages say what is wrong (the value and its name), what was expected, and what to do.
"""

from pathlib import Path

from keisei_ray.invocation import python


class KeiseiError(Exception):
    """Base class of the errors in this module."""


class UserError(KeiseiError):
    """A problem that the user can solve; the message says how. Exit code 2."""


class ConfigError(UserError):
    """A setting or option is unknown, malformed, out of its limits, or does not fit the others.

    Raised before anything starts, by the configuration, the command line and every command. The
    message names the setting; correct it.
    """


class RunDirError(UserError):
    """A directory is taken by another run, cannot be read or written, or its disk is full.

    Raised by everything that keeps files. Choose another directory, or make space.
    """


class TakenOverError(RunDirError):
    """Another process has taken the run over, because this one gave no sign of life.

    Raised while a run trains. Nothing more is saved; the other process has gone on from the last
    checkpoint.
    """


class RunDirLostError(RunDirError):
    """The directory of a run was moved or deleted while the run trained.

    Raised while a run trains, and ends it. The newest finished update is saved; the message has the
    flags to go on with.

    Attributes:
        place: where the directory is now, or the one that was made in its place.
    """

    def __init__(self, message: str, place: Path) -> None:
        """Makes the error; the newest update goes to `place`."""
        super().__init__(message)
        self.place = place


class StorageError(UserError):
    """A URI cannot be reached, read or written, or an upload to it has failed.

    Raised by `storage/remote` and the upload of a run. Check the URI, the credentials and the
    network; the local copy of the run is complete.
    """


class CheckpointError(UserError):
    """A checkpoint is missing or damaged, or weights are of another architecture.

    Raised when checkpoints, weights, the pool's table or a run's progress are read. Choose another
    checkpoint, or use the `model` section that the weights were trained with.
    """


class RefusedStateError(CheckpointError):
    """A checkpoint verifies, and the learner refuses its state.

    Raised when a run is resumed. `--resume latest` then goes on from the next older checkpoint. So
    it is about nothing but the checkpoint: not about memory, nor about another network.

    Attributes:
        timestep: the checkpoint's.
    """

    def __init__(self, message: str, timestep: int) -> None:
        """Makes the error of the checkpoint at a timestep."""
        super().__init__(message, timestep)
        self.timestep = timestep

    def __str__(self) -> str:
        return str(self.args[0])


class UnreadableCheckpointError(CheckpointError):
    """A checkpoint cannot be read, for lack of rights or because a disk or network fails.

    It may be intact. Raised when it is read; what only looks for a sound checkpoint passes it over,
    but `--resume latest` takes no older one in its place, which would set it aside. Make it
    readable, or name an older one.
    """


class ClusterError(UserError):
    """Ray cannot be started or joined, or its nodes lack the resources or the right versions.

    Raised by `distributed`, `status` and `tune`. The message names the address or the resource.
    """


class RecordsError(UserError):
    """Game records are missing, or nothing in them can be learned from.

    Raised by `pretrain`. The message says what was left out and why; name other files, or loosen
    the filters of the section `pretrain`.
    """


class PositionError(UserError):
    """A position that no game can have, a move that is illegal there, or a game that is over.

    Raised where positions are read from a user. Correct the SFEN or the moves.
    """


class PlayerError(UserError):
    """A player is unknown, or an engine cannot be started.

    Raised where a player is built from its name. Correct the name or the command. An engine of the
    opponent pool is benched instead, and the run goes on.
    """


class EngineDiedError(PlayerError):
    """A USI engine ended by itself. In a game it forfeits that game."""


class EngineTimeoutError(PlayerError):
    """A USI engine did not read or answer in time. In a game it forfeits that game."""


class TrackerError(UserError):
    """A tracker that was asked for is not installed or not logged in.

    Raised when trackers are started. Install the extra, log in, or turn the tracker off.
    """


class NumericalError(UserError):
    """Training gives infinite numbers, or such that are not numbers, again and again.

    Raised by `Learner.update` when several updates in a row had to be undone, also at half the
    learning rate; by self-play with weights whose outputs are not finite; by whatever would save
    such a state. Resume from the newest checkpoint with a lower learning rate.
    """


class DeviceMemoryError(UserError):
    """The learner has too little memory: to start, or for half of a minibatch at a time.

    Raised by `Learner`. The newest finished update is saved; resume with smaller minibatches, or
    give the learner more of the GPU, or of the machine.
    """


class ExportError(UserError):
    """A network cannot be exported: a package is missing, or the file computes something else.

    Raised by `run.py export`. No file is written.
    """


class BenchmarkError(UserError):
    """A training run of a benchmark has failed, its directory holds something else, or no GPU.

    Raised by `bench learning`, whose message names the run's log or the directory, and by
    `bench gpu`.
    """


class WireError(KeiseiError):
    """A packed buffer failed its validation. Nothing of it is used."""


class DamagedBufferError(WireError):
    """A packed buffer is truncated, changed, or contradicts itself."""


class ForeignBufferError(WireError):
    """Some bytes are not a packed buffer, or they are one of another kind."""


class NewerSchemaError(WireError):
    """A packed buffer was written by a newer schema than this program reads. Upgrade it."""


class RolloutFormatError(WireError):
    """Fields, shapes, dtypes or values are not those of a valid rollout.

    Raised by `Rollout.validate` and by the learner. The message names actor, version and field.
    """


class RejectedRolloutsError(WireError):
    """Some of the buffers given to an update are not valid rollouts. No weight has changed.

    Raised by `Learner.update`. The driver counts these rollouts as rejected, publishes an event,
    and makes the update with others.

    Attributes:
        causes: index of a buffer in the call -> what is wrong with it. Empty where it is another
            learner that refuses its share.
    """

    def __init__(self, causes: dict[int, str]) -> None:
        """Makes the error of the buffers in `causes`."""
        super().__init__(causes)
        self.causes = causes

    def __str__(self) -> str:
        if not self.causes:
            return "another learner has refused its share of the update"
        index, cause = next(iter(self.causes.items()))
        return f"{len(self.causes)} buffers are not rollouts; buffer {index}: {cause}"


class PolicyLagError(KeiseiError):
    """A rollout that is older than `schedule.max_policy_lag` allows reached the learner.

    Raised by `Learner.update`; it ends the run. The driver's admission rules this out, so it is a
    bug: report it.
    """


class EmptyUpdateError(KeiseiError):
    """An update was asked for without a single ply that the learner chose.

    Raised by `UpdateBatch.fill`. Happens at most with tiny rollouts and a `pool.share` close to 1.
    """


class PeerLostError(KeiseiError):
    """One of several learners cannot go on, because another one has ended or is out of reach.

    Raised by `LearnerGroup`. The driver restarts all learners.
    """


class ActorLostError(KeiseiError):
    """An actor died more often than the configured limit; its last cause is chained.

    Raised by `distributed`. Read the cause's traceback; continue with `--resume latest`.
    """


def installing(extra: str) -> str:
    """Returns the one command that installs an extra, for the Python that runs.

    What a library says of its own installation is not shown beside it: two commands are one too
    many.
    """
    return f"{python()} -m pip install -e '.[{extra}]'"
