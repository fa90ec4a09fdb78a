"""Which cells second-look tokens come from, in fractions of the view."""

import dataclasses

import pytest
import torch

from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.adapter import LookTwiceAdapter, LookTwiceSettings, PublishedAdapter
from velm_train.models.look_twice.reading import chosen_cells


def map_adapter():
    with seeded_init(1, "adapter"):
        return LookTwiceAdapter(
            settings=LookTwiceSettings(source="map", pool=2, dim=6), level_dim=8, final_dim=20, num_levels=2
        )


@pytest.fixture
def view(make_evidence):
    """View 0 alone: a crop of 2 x 3 cells of its upper right quarter, and 3 x 4 cells of the whole."""
    whole = make_evidence()
    parts = {
        field.name: getattr(whole, field.name)
        for field in dataclasses.fields(whole)
        if getattr(whole, field.name) is not None
    }
    cut = {name: part[:, :2] if name == "levels" else part[:2] for name, part in parts.items()}
    return dataclasses.replace(whole, **cut)


def test_a_hot_cell_of_the_crop_is_chosen_by_the_bin_it_lies_in(view):
    view.map_scores[:] = 0.0
    view.map_scores[0, 4] = 4.0  # row 1, column 1 of 2 x 3 in the upper right quarter
    x0, y0, x1, y1, share = chosen_cells(map_adapter(), view)[1]
    assert (x0, y0, x1, y1) == pytest.approx((0.5 + 1 / 6, 0.25, 0.5 + 2 / 6, 0.5))
    assert share > 0.5


def test_shares_are_the_largest_weights_of_the_selector_and_the_mode_is_given_back(view):
    adapter = map_adapter().train()
    cells = chosen_cells(adapter, view)
    assert adapter.training
    with torch.no_grad():
        weights = adapter.selector.attention(view, adapter.scores(view))[0, 1:]
    assert [cell[4] for cell in cells] == pytest.approx(weights.max(dim=1).values.tolist())
    assert len(cells) == 4


def test_cells_that_reach_into_padding_are_cut_to_the_view(view):
    boxes = torch.tensor([[0.5, 0.0, 1.0, 0.5], [0.0, -0.2, 1.0, 1.2]])
    for cell in chosen_cells(map_adapter(), dataclasses.replace(view, tile_xyxy=boxes)):
        assert all(0.0 <= side <= 1.0 for side in cell[:4])


def test_tokens_of_the_published_form_are_not_traced(view):
    adapter = PublishedAdapter(
        settings=LookTwiceSettings(source="learned", form="published", pool=2, dim=6),
        level_dim=8,
        final_dim=20,
        num_levels=2,
        num_tokens=12,
        project=torch.zeros_like,
    )
    assert chosen_cells(adapter, view) is None
