"""The composed adapter: degenerate input, gradients, settings."""

import dataclasses

import pytest
import torch

from velm_train.core.errors import ConfigError
from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.adapter import LookTwiceAdapter, LookTwiceSettings

SOURCES = ["map", "learned", "fused", "random"]


def _adapter(source, *, pool=2):
    settings = LookTwiceSettings(source=source, pool=pool, dim=6)
    with seeded_init(1, "adapter"):
        return LookTwiceAdapter(settings=settings, level_dim=8, final_dim=20, num_levels=2)


@pytest.mark.parametrize("source", SOURCES)
def test_shapes_follow_the_pool(source, make_evidence):
    adapter = _adapter(source, pool=3)
    output = adapter(make_evidence(), torch.randn(3, 12, 7))
    assert output.token_scores.shape == (3, 12)
    assert output.second_look.shape == (3, adapter.num_tokens, 7) == (3, 10, 7)
    assert output.image_logits.shape == (2,)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("kind", ["zeros", "huge", "infinite", "one_token", "tiny_map"])
def test_output_and_gradients_are_finite_for_degenerate_evidence(source, kind, make_evidence):
    evidence, adapter = make_evidence(), _adapter(source)
    if kind == "one_token":
        evidence.valid[:] = False
        evidence.valid[:, 3] = True
    if kind == "tiny_map":
        evidence.map_scores[:] = 1e-30
    factor = {"zeros": 0.0, "huge": 1e30, "infinite": float("inf")}.get(kind, 1.0)
    scaled = dataclasses.replace(evidence, final=evidence.final * factor, levels=evidence.levels * factor)
    output = adapter(scaled, torch.randn(3, 12, 7, requires_grad=True))
    (output.second_look.square().sum() + output.image_logits.sum()).backward()
    tensors = [output.token_scores, output.second_look, output.image_logits]
    tensors += [parameter.grad for parameter in adapter.parameters() if parameter.grad is not None]
    assert all(tensor.isfinite().all() for tensor in tensors)


@pytest.mark.parametrize("source", SOURCES)
def test_every_parameter_gets_a_gradient_once_the_queries_have_moved(source, make_evidence):
    adapter = _adapter(source)
    torch.nn.init.normal_(adapter.selector.query.weight)
    output = adapter(make_evidence(), torch.randn(3, 12, 7))
    (output.second_look.square().sum() + output.image_logits.square().sum()).backward()
    silent = [name for name, parameter in adapter.named_parameters() if not _learns(parameter)]
    # A constant added to every logit of a softmax changes nothing.
    assert set(silent) <= {"scores.matching.class_attention.bias", "selector.key.bias"}


def _learns(parameter):
    return parameter.grad is not None and bool(parameter.grad.abs().max() > 1e-9)


def test_half_precision_evidence_under_autocast_is_computed_in_float32(make_evidence):
    evidence, adapter = make_evidence(), _adapter("fused")
    half = dataclasses.replace(evidence, final=evidence.final.bfloat16(), levels=evidence.levels.bfloat16())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = adapter(half, torch.randn(3, 12, 7).bfloat16())
    assert {output.token_scores.dtype, output.second_look.dtype, output.image_logits.dtype} == {torch.float32}


@pytest.mark.parametrize("wrong", [{"pool": 0}, {"dim": 0}, {"steepness": 0.0}, {"prior_weight": -1.0}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LookTwiceSettings(**wrong)


def test_an_unknown_source_is_refused_by_name():
    settings = LookTwiceSettings()
    object.__setattr__(settings, "source", "mapp")  # past the type check that only tests have
    with pytest.raises(ConfigError, match="'mapp'; allowed: map, learned"):
        settings.__post_init__()
