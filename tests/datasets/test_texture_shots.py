"""Facts about pieces of a photograph and camera shots of them."""

import numpy as np
import pytest

from velm_train.core.errors import DataError
from velm_train.datasets.textures import photo_pieces, shoot

SIZE_HW = (64, 80)


def numbered_photo() -> np.ndarray:
    number = np.arange(132 * 115).reshape(132, 115)  # every pixel gets a colour of its own
    return np.stack([number // 256, number % 256, np.zeros_like(number)], axis=2).astype(np.uint8)


def test_pieces_of_a_photograph_share_no_pixel() -> None:
    pieces = photo_pieces(numbered_photo(), even_light=False)
    colours = [{tuple(pixel) for pixel in piece.reshape(-1, 3).tolist()} for piece in pieces]
    assert [piece.shape for piece in pieces] == [(22, 23, 3)] * 30
    assert len(set.union(*colours)) == sum(map(len, colours)) == 132 * 115


def test_pieces_are_counted_row_by_row() -> None:
    photo = numbered_photo()
    pieces = photo_pieces(photo, even_light=False)
    assert np.array_equal(pieces[0], photo[:22, :23])
    assert np.array_equal(pieces[4], photo[:22, 92:])
    assert np.array_equal(pieces[5], photo[22:44, :23])
    assert np.array_equal(pieces[29], photo[110:, 92:])


def test_a_shot_depends_on_its_own_piece_alone() -> None:
    photo = np.random.default_rng(0).integers(0, 256, size=(240, 250, 3), dtype=np.uint8)
    repainted = photo.copy()
    repainted[:, 50:] = 0
    for piece, equal in ((5, True), (6, False)):
        shots = [
            shoot(
                photo_pieces(picture, even_light=False)[piece],
                photo_px_per_px=1.0,
                size_hw=(64, 70),
                rng=np.random.default_rng(3),
            )
            for picture in (photo, repainted)
        ]
        assert np.array_equal(*shots) == equal


def test_even_light_makes_all_pieces_equally_bright() -> None:
    slope = np.linspace(60, 180, 240)[None, :, None]
    photo = np.broadcast_to(slope, (150, 240, 3)).astype(np.uint8)
    plain, even = ([piece.mean() for piece in photo_pieces(photo, even_light=asked)] for asked in (False, True))
    assert np.ptp(plain) > 90
    assert np.ptp(even) < 25


def test_shots_of_a_piece_differ_in_place() -> None:
    piece = np.random.default_rng(0).integers(0, 256, size=(60, 70, 3), dtype=np.uint8)
    one, other = (shoot(piece, photo_px_per_px=0.5, size_hw=(64, 80), rng=np.random.default_rng(n)) for n in (0, 1))
    assert one.shape == (64, 80, 3)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.3


def test_a_piece_is_enlarged_so_that_the_crop_keeps_room_to_move() -> None:
    piece = np.zeros((30, 40, 3), dtype=np.uint8)
    piece[:, ::2] = 200  # stripes of one pixel: 0.9 x 30 / 64 photograph pixels to an image pixel
    shot = shoot(piece, photo_px_per_px=1.0, size_hw=(64, 80), rng=np.random.default_rng(0))
    assert abs(np.count_nonzero(np.diff(shot[32, :, 0] > 100)) - 80 * 0.9 * 30 / 64) <= 1.5


@pytest.mark.parametrize("piece_hw", [(21, 40), (40, 26), (0, 0)])
def test_a_piece_that_is_too_small_is_refused(piece_hw: tuple[int, int]) -> None:
    piece = np.zeros((*piece_hw, 3), dtype=np.uint8)
    with pytest.raises(DataError, match=rf"{piece_hw[0]}x{piece_hw[1]} .* images of 64x80, which need 22x27; lower"):
        shoot(piece, photo_px_per_px=1.0, size_hw=(64, 80), rng=np.random.default_rng(0))
