"""The composed adapter: degenerate input, gradients, settings."""

import dataclasses

import pytest
import torch

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ConfigError
from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.adapter import LookTwiceAdapter, LookTwiceSettings, build_look_twice

SOURCES = ["map", "learned", "fused", "random", "centre", "oracle"]


@pytest.fixture
def evidence_with_truth(make_evidence):
    def make(**kwargs):
        evidence = make_evidence(**kwargs)
        truth = torch.rand(evidence.valid.shape, generator=torch.Generator().manual_seed(8))
        return dataclasses.replace(evidence, gt_scores=truth)

    return make


def _adapter(source, *, pool=2):
    settings = LookTwiceSettings(source=source, pool=pool, dim=6)
    with seeded_init(1, "adapter"):
        return LookTwiceAdapter(settings=settings, level_dim=8, final_dim=20, num_levels=2)


@pytest.mark.parametrize("source", SOURCES)
def test_there_are_k_tokens_per_view_whatever_its_number_of_tiles(source, evidence_with_truth):
    adapter = _adapter(source, pool=3)
    output = adapter(evidence_with_truth(), torch.randn(3, 12, 7))
    assert output.token_scores.shape == (3, 12)
    assert output.second_look.shape == (2, adapter.num_tokens, 7) == (2, 10, 7)
    assert output.image_logits.shape == (2,)


DEGENERATE = ["zeros", "constant", "huge", "1e4", "1e-30", "infinite", "one_token", "tiny_map", "huge_map", "no_truth"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", DEGENERATE)
def test_output_and_gradients_are_finite_for_degenerate_evidence(source, kind, dtype, evidence_with_truth):
    evidence, adapter = evidence_with_truth(), _adapter(source)
    if kind == "one_token":
        evidence.valid[:] = False
        evidence.valid[:, 3] = True
    if kind.endswith("_map"):
        evidence.map_scores[:] = {"tiny_map": 1e-30, "huge_map": 1e30}[kind]
    if kind == "no_truth":
        evidence.gt_scores[:] = float("nan")
    if kind == "constant":
        evidence.final[:], evidence.levels[:] = 2.0, 2.0
    factor = {"zeros": 0.0, "huge": 1e30, "1e4": 1e4, "1e-30": 1e-30, "infinite": float("inf")}.get(kind, 1.0)
    final, levels = ((part * factor).to(dtype) for part in (evidence.final, evidence.levels))
    projected = torch.randn(3, 12, 7, dtype=dtype, requires_grad=True)
    output = adapter(dataclasses.replace(evidence, final=final, levels=levels), projected)
    (output.second_look.square().sum() + output.image_logits.sum()).backward()
    tensors = [output.token_scores, output.second_look, output.image_logits, projected.grad]
    assert {tensor.dtype for tensor in tensors[:3]} == {torch.float32}
    tensors += [parameter.grad for parameter in adapter.parameters() if parameter.grad is not None]
    assert all(tensor.isfinite().all() for tensor in tensors)


@pytest.mark.parametrize("source", SOURCES)
def test_every_parameter_gets_a_gradient_once_the_queries_have_moved(source, evidence_with_truth):
    adapter = _adapter(source)
    torch.nn.init.normal_(adapter.selector.query.weight)
    output = adapter(evidence_with_truth(), torch.randn(3, 12, 7))
    (output.second_look.square().sum() + output.image_logits.square().sum()).backward()
    silent = [name for name, parameter in adapter.named_parameters() if not _learns(parameter)]
    # A constant added to every logit of a softmax changes nothing.
    assert set(silent) <= {"scores.matching.class_attention.bias", "selector.key.bias"}


@pytest.mark.parametrize("source", SOURCES)
def test_evidence_gets_no_gradient_from_the_controls(source, evidence_with_truth):
    """Sources without weights of their own score the same whatever is learned."""
    adapter = _adapter(source)
    assert any(name.startswith("scores.") for name, _ in adapter.named_parameters()) == (source in ("learned", "fused"))
    scores = adapter(evidence_with_truth(), torch.randn(3, 12, 7)).token_scores
    assert scores.requires_grad == (source in ("learned", "fused"))


@pytest.mark.parametrize("source", SOURCES)
def test_a_view_alone_gives_what_it_gives_beside_others(source, evidence_with_truth):
    evidence, adapter = evidence_with_truth(), _adapter(source)
    torch.nn.init.normal_(adapter.selector.query.weight)
    projected = torch.randn(3, 12, 7)
    together = adapter(evidence, projected)
    for view, tiles in enumerate([[0, 1], [2]]):
        parts = {field.name: getattr(evidence, field.name) for field in dataclasses.fields(evidence)}
        parts = {name: part[:, tiles] if name == "levels" else part[tiles] for name, part in parts.items()}
        parts["view_index"] = torch.zeros(len(tiles), dtype=torch.long)
        alone = adapter(VisionEvidence(**parts), projected[tiles])
        torch.testing.assert_close(alone.second_look[0], together.second_look[view], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.image_logits[0], together.image_logits[view], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(alone.token_scores, together.token_scores[tiles], atol=1e-6, rtol=1e-5)


def _learns(parameter):
    return parameter.grad is not None and bool(parameter.grad.abs().max() > 1e-9)


def test_half_precision_evidence_under_autocast_is_computed_in_float32(make_evidence):
    evidence, adapter = make_evidence(), _adapter("fused")
    half = dataclasses.replace(evidence, final=evidence.final.bfloat16(), levels=evidence.levels.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = adapter(half, torch.randn(3, 12, 7).bfloat16())
    assert {output.token_scores.dtype, output.second_look.dtype, output.image_logits.dtype} == {torch.float32}


@pytest.mark.parametrize(
    "wrong", [{"pool": 0}, {"dim": 0}, {"steepness": 0.0}, {"prior_weight": -1.0}, {"score_noise": -0.1}]
)
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LookTwiceSettings(**wrong)


def test_an_unknown_source_is_refused_by_name():
    settings = LookTwiceSettings()
    object.__setattr__(settings, "source", "mapp")  # past the type check that only tests have
    with pytest.raises(ConfigError, match="'mapp'; allowed: map, learned"):
        settings.__post_init__()


def test_source_off_is_no_adapter_at_all():
    settings = LookTwiceSettings(source="off")
    project = torch.nn.Linear(20, 7).__call__
    assert (
        build_look_twice(settings=settings, level_dim=8, final_dim=20, num_levels=2, num_tokens=12, project=project)
        is None
    )
