"""Every error this package raises on purpose.

    KeiseiError
    |-- UserError                 exit code 2: one line, no traceback, nothing lost
    |   |-- ConfigError           a setting: unknown key, wrong type, sizes that do not fit
    |   |-- RunDirError           the run directory: taken, read-only, full
    |   |-- StorageError          a URI: unreachable, no rights, no bucket, an upload that failed
    |   |-- CheckpointError       a checkpoint: missing, damaged, of another architecture
    |   |-- ClusterError          Ray refused: port, address, token, resources
    |   |-- PlayerError           a player: unknown, or an engine that cannot be started
    |   |   |-- EngineDiedError   an engine ended; in a game it forfeits that game
    |   |   `-- EngineTimeoutError  ... or did not answer in time
    |   |-- TrackerError          a tracker that is not installed or not logged in
    |   `-- BenchmarkError        a benchmark's run or file that cannot be used
    |-- WireError                 a packed buffer that must not reach its consumer
    |   |-- DamagedBufferError    truncated, or its checksum does not match
    |   |-- ForeignBufferError    not one of ours, or of another kind
    |   |-- NewerSchemaError      written by a newer schema than this program reads
    |   |-- RolloutFormatError    fields, shapes, dtypes or values that are not a rollout's
    |   `-- RejectedRolloutsError some of an update's buffers are not rollouts
    |-- PolicyLagError            a rollout older than max_policy_lag reached the learner
    |-- EmptyUpdateError          an update with no timesteps
    |-- NumericalError            the loss or a gradient is not finite
    `-- ActorLostError            an actor died too often; its last cause is chained

Messages say what is wrong (with the value and its name), what was expected, what to do.
"""


class KeiseiError(Exception):
    """Base of everything raised on purpose."""


class UserError(KeiseiError):
    """Something the person at the keyboard can put right. Exit code 2."""


class ConfigError(UserError):
    """A setting is unknown, mistyped, or does not fit the others."""


class RunDirError(UserError):
    """The run directory is taken, cannot be written, or is full."""


class StorageError(UserError):
    """A URI cannot be reached, read or written, or an upload to it has failed."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or of another architecture."""


class ClusterError(UserError):
    """Ray could not be started or joined, or lacks the resources."""


class PlayerError(UserError):
    """A player is unknown, or an engine cannot be started or kept alive."""


class EngineDiedError(PlayerError):
    """An engine ended by itself; in a game it forfeits that game."""


class EngineTimeoutError(PlayerError):
    """An engine did not read or answer in time; in a game it forfeits that game."""


class TrackerError(UserError):
    """A tracker that was asked for is not installed, or not logged in."""


class BenchmarkError(UserError):
    """A run that a benchmark started has failed, or its directory holds something else."""


class WireError(KeiseiError):
    """A packed buffer failed validation."""


class DamagedBufferError(WireError):
    """A packed buffer is truncated or fails its checksum."""


class ForeignBufferError(WireError):
    """Bytes that are not a packed buffer, or one of another kind."""


class NewerSchemaError(WireError):
    """A packed buffer was written by a newer schema than this program reads."""


class RolloutFormatError(WireError):
    """A rollout's fields, shapes, dtypes or values are not what the record says."""


class RejectedRolloutsError(WireError):
    """Some of the buffers given to an update are not rollouts; nothing was learnt from any.

    Attributes:
        causes: index of the buffer in the call -> what is wrong with it.
    """

    def __init__(self, causes: dict[int, str]) -> None:
        super().__init__(causes)
        self.causes = causes

    def __str__(self) -> str:
        index, cause = next(iter(self.causes.items()))
        return f"{len(self.causes)} buffers are not rollouts; buffer {index}: {cause}"


class PolicyLagError(KeiseiError):
    """A rollout older than the configured lag reached the learner."""


class EmptyUpdateError(KeiseiError):
    """An update was asked for without a single timestep."""


class NumericalError(KeiseiError):
    """A loss or gradient is not finite."""


class ActorLostError(KeiseiError):
    """An actor died more often than the configured limit."""
