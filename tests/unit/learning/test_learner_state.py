"""The learner's file of a checkpoint: identity, and nothing built that was not saved so."""

import io
import zipfile
from collections.abc import Callable
from typing import Any

import pytest
import torch

from keisei_ray.errors import CheckpointError
from keisei_ray.learning.learner import Learner
from keisei_ray.learning.learner_state import read_learner_state
from keisei_ray.storage.run_layout import LEARNER_FILE
from tests.helpers.mutations import rezipped
from tests.helpers.tiny import played, tiny_config

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def learner() -> Learner:
    """A learner with state for every parameter."""
    config = tiny_config()
    learner = Learner(config)
    learner.update([played(config, learner)], 0)
    return learner


def read(learner: Learner, content: bytes) -> Any:
    return read_learner_state(content, learner._optimizer, learner._layout, learner._generator, CPU)


def content_of(learner: Learner) -> bytes:
    return learner.state_files()[LEARNER_FILE]


def test_the_state_is_read_back_as_it_was_written(learner: Learner) -> None:
    found, own = read(learner, content_of(learner)), learner._optimizer.state_dict()
    assert found.weights_version == learner.weights_version == 1
    assert torch.equal(found.generator, learner._generator.get_state())
    assert found.optimizer["param_groups"] == own["param_groups"]
    assert found.optimizer["state"].keys() == own["state"].keys()
    for index, entry in own["state"].items():
        for name, value in entry.items():
            assert torch.equal(found.optimizer["state"][index][name], value)
            assert found.optimizer["state"][index][name].stride() == value.stride()


def test_only_the_learning_rate_of_the_groups_is_the_files(learner: Learner) -> None:
    def change(state: dict[str, Any]) -> None:
        group = state["optimizer"]["param_groups"][0]
        group |= {"lr": 0.125, "betas": (5.0, 5.0), "maximize": True, "eps": 9.0}

    (group,) = read(learner, changed(learner, change)).optimizer["param_groups"]
    (own,) = learner._optimizer.state_dict()["param_groups"]
    assert group == own | {"lr": 0.125}


def test_an_adaptive_rate_of_an_older_file_is_within_the_range_of_the_setting(
    learner: Learner,
) -> None:
    """The file does not say for which setting its rate is."""

    def make_older(state: dict[str, Any]) -> None:
        del state["learning_rate"]
        state["optimizer"]["param_groups"][0]["lr"] = 0.5

    older = changed(learner, make_older)
    assert read(learner, older).learning_rate is None
    config = tiny_config(learner={"lr_schedule": "adaptive", "learning_rate": 1e-3})
    resumed = Learner(config)
    resumed.load_state_files(learner.state_files() | {LEARNER_FILE: older})
    report = resumed.update([played(config, resumed)], 0)
    assert report.learning_rate == pytest.approx(1e-2)


def changed(learner: Learner, change: Callable[[dict[str, Any]], object]) -> bytes:
    """Returns the file of a state in which something was changed."""
    state = torch.load(io.BytesIO(content_of(learner)), weights_only=True)
    change(state)
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()


def moment(state: dict[str, Any], value: object) -> None:
    state["optimizer"]["state"][0]["exp_avg"] = value


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(weights_version=-1),
        lambda s: s.update(weights_version=float("inf")),
        lambda s: s.update(generator=None),
        lambda s: s.update(generator=torch.zeros(5056, dtype=torch.uint8)),
        lambda s: s.update(scaler=7),
        lambda s: s.update(scaler={"scale": "many"}),
        lambda s: s.update(optimizer=[]),
        lambda s: s.pop("optimizer"),
        lambda s: s.update(learning_rate=0),
        lambda s: s.update(halved_rate="many"),
        lambda s: s["optimizer"]["param_groups"].pop(),
        lambda s: s["optimizer"]["param_groups"][0].update(lr=float("nan")),
        lambda s: s["optimizer"]["state"].update({"x": {}}),
        lambda s: s["optimizer"]["state"].update({10**6: s["optimizer"]["state"][0]}),
        lambda s: s["optimizer"]["state"][0].pop("step"),
        lambda s: s["optimizer"]["state"][1].update(step=torch.tensor(5.0)),
        lambda s: s["optimizer"]["state"].pop(1),
        lambda s: moment(s, 0.5),
        lambda s: moment(s, torch.zeros(3)),
        lambda s: moment(s, s["optimizer"]["state"][0]["exp_avg"].double()),
    ],
)
def test_a_state_of_other_values_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], object], learner: Learner
) -> None:
    with pytest.raises(CheckpointError, match=r"learner\.pt does not fit") as refusal:
        read(learner, changed(learner, change))
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_a_compressed_archive_is_refused(learner: Learner) -> None:
    """It may hold a thousand times its size."""
    small = rezipped(content_of(learner), lambda _, content: content, zipfile.ZIP_DEFLATED)
    with pytest.raises(CheckpointError, match="a compressed entry"):
        read(learner, small)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (b"collections\nOrderedDict", b"__builtin__\nbytearray", "an object '__builtin__ bytearr"),
        (b"torch._utils\n_rebuild_tensor_v2", b"os\nsystem", "an object 'os system'"),
    ],
)
def test_other_objects_than_a_learner_saves_are_refused(
    old: bytes, new: bytes, named: str, learner: Learner
) -> None:
    forged = rezipped(content_of(learner), lambda _, content: content.replace(old, new))
    with pytest.raises(CheckpointError, match=named):
        read(learner, forged)


@pytest.mark.parametrize("places", [1, -1], ids=["of the view", "of storage and view"])
def test_a_tensor_larger_than_the_file_is_refused(places: int, learner: Learner) -> None:
    """torch does so itself; that a release of it might not is for this test to find."""
    out = io.BytesIO()
    torch.save({"x": torch.zeros(16)}, out)

    def enlarge(name: str, content: bytes) -> bytes:
        parts = content.rsplit(b"K\x10", places) if name.endswith(".pkl") else [content]
        return b"J\xff\xff\xff\x03".join(parts)

    with pytest.raises(CheckpointError, match=r"RuntimeError: (record size|Trying to resize)"):
        read(learner, rezipped(out.getvalue(), enlarge))


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("CUDA out of memory"), MemoryError()])
def test_a_file_for_which_there_is_no_room_is_not_refused(
    error: Exception, learner: Learner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(*_: object, **__: object) -> object:
        raise error

    content = content_of(learner)
    monkeypatch.setattr(torch, "load", load)
    with pytest.raises(type(error)):
        read(learner, content)


def test_a_file_that_is_refused_changes_nothing(learner: Learner) -> None:
    other = Learner(tiny_config(run={"seed": 5}))
    before = other.weights_digest()
    files = learner.state_files()
    files[LEARNER_FILE] = changed(learner, lambda s: s.update(weights_version=-1))
    with pytest.raises(CheckpointError):
        other.load_state_files(files)
    assert (other.weights_digest(), other.weights_version) == (before, 0)
