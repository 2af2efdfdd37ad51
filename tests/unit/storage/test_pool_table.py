"""The table of the pool: snapshots that have left it, while games against them are in play."""

import json

from keisei_ray.storage.pool_table import PoolMember, read_table, table_json

STAYS, LEFT = PoolMember("v7", 7, "a" * 64), PoolMember("v3", 3, "b" * 64, 2.0, 1.0, 2)


def test_former_members_are_read_only_where_they_are_asked_for() -> None:
    text = table_json([STAYS], [LEFT])
    assert read_table(text) == [STAYS]
    assert read_table(text, with_former=True) == [STAYS, LEFT]


def test_a_table_without_former_members_is_that_of_older_programs() -> None:
    text = table_json([STAYS])
    assert set(json.loads(text)) == {"members"}
    assert read_table(text, with_former=True) == [STAYS]
