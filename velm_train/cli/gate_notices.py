"""The gates of all categories in, the sentences that nobody must miss out."""

from collections.abc import Iterable, Iterator, Sequence

from velm_train.core.gate_card import AlphaRow, CategoryGate

REHEARSAL = "Made with debug=fast, in the smallest form with few images and few steps: no figure here means anything."

MAX_NAMED = 3
"""Files named in one sentence; the card holds all."""


def notices(categories: Sequence[CategoryGate], *, policy: str, allowed: Sequence[str], rehearsal: bool) -> list[str]:
    """Returns what must be said before any figure.

    Args:
        categories: every gate.
        policy: of the run.
        allowed: findings of the data audit that the user allows.
        rehearsal: whether the run is made in its smallest form.
    """
    sentences = [REHEARSAL] if rehearsal else []
    sentences += _about_promises(categories)
    if policy != "detector":
        sentences.append(f"Gate policy is {policy!r}: this card is about the detector alone.")
    sentences += [f"Allowed finding of the data audit: {text}." for text in allowed]
    sentences += [sentence for category in categories for sentence in _about_suspects(category)]
    without_normals = _names(one for one in categories if not one.scores("test", defective=False))
    without_defects = _names(one for one in categories if not one.scores("test", defective=True))
    if without_normals:
        sentences.append(f"No normal test image in {without_normals}: nothing is known about false alarms there.")
    if without_defects:
        sentences.append(f"No defective test image in {without_defects}: nothing is known about missed defects there.")
    return sentences


def _about_promises(categories: Sequence[CategoryGate]) -> Iterator[str]:
    no_guarantee = _names(one for one in categories if _has(one, "no guarantee"))
    if no_guarantee:
        yield f"No guarantee holds in {no_guarantee}: the detector looks at the test images together (transductive)."
    too_many = _names(one for one in categories if _has(one, "more than promised"))
    if too_many:
        yield (
            f"More false alarms than promised in {too_many}: the normal test images are not like those that set the "
            "threshold; calibrate on newer normal images."
        )
    drifted = _names(one for one in categories if one.drift is not None and one.drift.drifted)
    if drifted:
        yield (
            f"Scores of normal test images differ from those that set the threshold in {drifted}: the promise need not "
            "hold there."
        )


def _about_suspects(category: CategoryGate) -> Iterator[str]:
    if not category.suspects:
        return
    number = len(category.suspects)
    shown = ", ".join(one.image_id for one in category.suspects[:MAX_NAMED])
    more = f" and {number - MAX_NAMED} more" if number > MAX_NAMED else ""
    yield (
        f"{category.category}: among the normal images that set the threshold, {shown}{more} "
        f"{'scores' if number == 1 else 'score'} far above the others. Look at {'it' if number == 1 else 'them'}: move "
        "a defect to the folder of its type, remove what does not belong, and run again."
    )


def _has(category: CategoryGate, verdict: str) -> bool:
    return any(row.verdict == verdict for row in _reached(category))


def _reached(category: CategoryGate) -> list[AlphaRow]:
    return [row for row in category.rows if row.reachable]


def _names(categories: Iterable[CategoryGate]) -> str:
    return ", ".join(category.category for category in categories)
