"""Which images must stay together: records in, image_id -> unit out."""

from collections.abc import Sequence

from velm_train.core.records import ImageRecord


def bind_units(records: Sequence[ImageRecord]) -> dict[str, str]:
    """Returns image_id -> unit; images joined by equal content or group, directly or in a chain, share a unit."""
    parent: dict[str, str] = {}

    def find(key: str) -> str:
        while parent.setdefault(key, key) != key:
            parent[key] = parent[parent[key]]
            key = parent[key]
        return key

    for record in records:
        one, other = sorted((find(f"group {record.group_id}"), find(f"content {record.sha256}")))
        parent[other] = one
    return {record.image_id: find(f"group {record.group_id}") for record in records}
