"""The rollout: the record that travels from a self-play actor to the learner, and its packed form.

    rollout.py         the record: fields, shapes, dtypes, points of view, and their validation
    finished_game.py   the record of one finished game, sent beside a rollout
    packed_rollout.py  a rollout  <-> a packed buffer
    packed_buffer.py   a header and named arrays  <-> a packed buffer, checked by digests
    payload.py         named arrays  <-> one compressed block of bytes

The last three stack: each knows only the one below it. `network/weights.py` also stands on
`packed_buffer.py`, so rollouts and weights have one format. An actor fills a `Rollout`
(`selfplay/self_play.py`) and calls `pack_rollout`; the driver forwards the buffer without opening
it; the learner calls `unpack_rollout` (`learning/learner.py`). Both ends validate.

No torch and no Ray.
"""
