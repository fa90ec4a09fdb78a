"""The published form against its equations in double precision, and where the released code goes wrong."""

import dataclasses
import math

import pytest
import torch
from torch.nn import functional as F

from velm_train.core.batch import VisionEvidence
from velm_train.core.errors import ConfigError
from velm_train.models.initialisation import seeded_init
from velm_train.models.look_twice.adapter import LookTwiceSettings, PublishedAdapter, build_look_twice
from velm_train.models.look_twice.published import PublishedLookTwice, one_set_per_view

ROWS, COLUMNS, WIDTH, DEPTHS, DIM = 3, 5, 10, 2, 6
NUM_TOKENS = ROWS * COLUMNS


@pytest.fixture
def expert():
    with seeded_init(11, "published"):
        return PublishedLookTwice(level_dim=8, final_dim=WIDTH, num_levels=DEPTHS, num_tokens=NUM_TOKENS, dim=DIM)


def _evidence(*, seed=0, scale=1.0):
    """View 0 has a crop and then its whole, view 1 a whole alone."""
    generator = torch.Generator().manual_seed(seed)
    return VisionEvidence(
        final=scale * torch.randn(3, NUM_TOKENS, WIDTH, generator=generator),
        levels=scale * torch.randn(DEPTHS, 3, NUM_TOKENS, 8, generator=generator),
        grid_hw=torch.tensor([[ROWS, COLUMNS]] * 3),
        view_index=torch.tensor([0, 0, 1]),
        is_global=torch.tensor([False, True, True]),
        valid=torch.ones(3, NUM_TOKENS, dtype=torch.bool),
        map_scores=torch.zeros(3, NUM_TOKENS),
    )


def test_the_published_sizes_have_the_published_number_of_parameters():
    """4 levels of SigLIP so400m, 729 tokens; the count and its parts as released."""
    with torch.device("meta"):
        expert = PublishedLookTwice(level_dim=1152, final_dim=1152, num_levels=4, num_tokens=27 * 27)
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in expert.named_children()}
    assert counts == {
        "class_pooling": 730,
        "class_predictor": 852_992,
        "level_adaptors": 2_361_344,
        "prompt_adaptors": 2_099_200,
        "query": 1_180_672 // 2,
        "key": 1_180_672 // 2,
        "final_predictor": 590_849,
    }
    assert sum(p.numel() for p in expert.parameters()) == 7_086_811


def _linear(layer, vector):
    weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
    return torch.stack([sum(w * x for w, x in zip(row, vector, strict=True)) for row in weight]) + bias


def _mlp(layers, vector):
    return _linear(layers[2], F.gelu(_linear(layers[0], vector)))


def _unit(vector):
    return vector / math.sqrt(float((vector * vector).sum()))


def _cells(size):
    return [range(size * i // 2, -(-size * (i + 1) // 2)) for i in range(2)]


BINS = [[r * COLUMNS + c for r in rows for c in columns] for rows in _cells(ROWS) for columns in _cells(COLUMNS)]


def _written_out(expert, evidence):
    """Returns m (T, N), s (T, 4, D), r (I, D) and scores (I,), one number at a time, in double precision."""
    final, levels = evidence.final.double(), evidence.levels.double()
    position_weights = expert.class_pooling.weight.detach().double()[0]
    scores, tokens, weights = [], [], []
    for tile in range(3):
        whole = final[{0: 1, 1: 1, 2: 2}[tile]]
        pooled = sum(w * v for w, v in zip(position_weights, whole, strict=True)) + expert.class_pooling.bias.double()
        class_vector = _mlp(expert.class_predictor, pooled.detach())
        m = torch.zeros(NUM_TOKENS, dtype=torch.float64)
        for level in range(DEPTHS):
            plus, minus = (
                _unit(_linear(expert.prompt_adaptors[level], torch.cat([sign.detach().double(), class_vector])))
                for sign in (expert.anomalous_embedding, expert.normal_embedding)
            )
            for n in range(NUM_TOKENS):
                u = _unit(_linear(expert.level_adaptors[level], levels[level, tile, n]))
                pair = torch.stack([100 * (u @ plus), 100 * (u @ minus)])
                m[n] += pair.softmax(dim=0)[0] / DEPTHS
        queries = [sum(m[n] * final[tile, n] for n in cells) / sum(m[n] for n in cells) for cells in BINS]
        selected = []
        for query in queries:
            q = _linear(expert.query, query)
            logits = torch.stack([q @ _linear(expert.key, final[tile, n]) / math.sqrt(DIM) for n in range(NUM_TOKENS)])
            selected.append(logits.softmax(dim=0) @ final[tile])
        scores.append(m)
        tokens.append(torch.stack(selected))
        weights.append(torch.stack([m[cells].mean() * m.mean() for cells in BINS]))
    vectors = []
    for tiles in ([0, 1], [2]):
        w, s = torch.cat([weights[tile] for tile in tiles]), torch.cat([tokens[tile] for tile in tiles])
        vectors.append((w[:, None] * s).sum(dim=0) / w.sum())
    logits = torch.stack([_mlp(expert.final_predictor, vector)[0] for vector in vectors])
    return torch.stack(scores), torch.stack(tokens), torch.stack(vectors), logits


@pytest.mark.parametrize("seed", [0, 1])
def test_all_outputs_equal_the_published_equations_in_double_precision(expert, seed):
    evidence = _evidence(seed=seed)
    found = expert(evidence)
    m, s, r, logits = _written_out(expert, evidence)
    torch.testing.assert_close(found.token_scores.double(), m, atol=2e-5, rtol=1e-4)
    torch.testing.assert_close(found.tile_tokens.double(), s, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.view_vectors.double(), r, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.image_logits.double(), logits, atol=1e-4, rtol=1e-4)


def _saturate(expert):
    """Makes every token exactly normal in every level: cos+ = -1, cos- = 1, margin -200."""
    with torch.no_grad():
        for adaptor, prompt in zip(expert.level_adaptors, expert.prompt_adaptors, strict=True):
            adaptor.weight.zero_()
            adaptor.bias.copy_(torch.eye(DIM)[0])
            prompt.weight.zero_()
            prompt.weight[0, 0] = 1.0
            prompt.bias.zero_()
        expert.anomalous_embedding.copy_(-torch.eye(DIM)[0])
        expert.normal_embedding.copy_(torch.eye(DIM)[0])


def test_significance_that_underflows_gives_plain_means_where_the_released_code_gives_nan(expert):
    """At a margin of -200 the quotient P(m v) / P(m) of float32 is 0 / 0; equal m must cancel."""
    _saturate(expert)
    evidence = _evidence()
    found = expert(evidence)
    assert found.token_scores.max() == 0.0  # m itself underflows
    assert torch.allclose(expert.log_scores(evidence), torch.tensor(-200.0))
    queries = torch.stack([evidence.final[2, cells].mean(dim=0) for cells in BINS])
    similarity = expert.query(queries) @ expert.key(evidence.final[2]).T / math.sqrt(DIM)
    expected = similarity.softmax(dim=-1) @ evidence.final[2]
    torch.testing.assert_close(found.tile_tokens[2], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.view_vectors[1], expected.mean(dim=0), atol=1e-5, rtol=1e-5)
    (found.image_logits.sum() + found.tile_tokens.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in expert.parameters())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("value", ["zeros", "constant", 1e4, 1e-30, 1e30])
def test_degenerate_evidence_gives_finite_outputs_and_gradients(expert, value, dtype):
    evidence = _evidence(scale=value if isinstance(value, float) else 1.0)
    if value in ("zeros", "constant"):
        fill = 0.0 if value == "zeros" else 3.0
        evidence.final.fill_(fill)
        evidence.levels.fill_(fill)
    half = dataclasses.replace(evidence, final=evidence.final.to(dtype), levels=evidence.levels.to(dtype))
    found = expert(half)
    (found.tile_tokens.sum() + found.view_vectors.sum() + found.image_logits.sum()).backward()
    outputs = [found.token_scores, found.tile_tokens, found.view_vectors, found.image_logits]
    assert {output.dtype for output in outputs} == {torch.float32}
    outputs += [p.grad for p in expert.parameters() if p.grad is not None]
    assert all(output.isfinite().all() for output in outputs)


def test_padding_counts_like_object_pixels_as_in_the_released_code(expert):
    """Reproduced behind this name; only the scores that are reported are 0 there."""
    evidence = _evidence()
    padded = dataclasses.replace(evidence, valid=evidence.valid.clone())
    padded.valid[:, ::2] = False
    assert torch.equal(expert(padded).tile_tokens, expert(evidence).tile_tokens)
    assert expert(padded).token_scores[:, ::2].abs().sum() == 0
    assert torch.equal(expert(padded).token_scores[:, 1::2], expert(evidence).token_scores[:, 1::2])


def test_another_grid_is_refused_by_name(expert):
    wrong = dataclasses.replace(_evidence(), grid_hw=torch.tensor([[3, 5], [3, 4], [3, 5]]))
    with pytest.raises(ConfigError, match=r"look_twice.form=published weighs 15 token positions.*\[12, 15\]"):
        expert(wrong)


def test_tokens_of_several_tiles_are_averaged_by_the_published_weights(expert):
    evidence = _evidence()
    found = expert(evidence)
    merged = one_set_per_view(found, evidence)
    weights = found.log_weights[:2].double().exp()
    expected = (weights[..., None] * found.tile_tokens[:2]).sum(dim=0) / weights.sum(dim=0)[:, None]
    torch.testing.assert_close(merged[0].double(), expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(merged[1], found.tile_tokens[2])
    alone = dataclasses.replace(evidence, view_index=torch.arange(3), is_global=torch.ones(3, dtype=torch.bool))
    found = expert(alone)
    assert one_set_per_view(found, alone) is found.tile_tokens


def _adapter(projector):
    settings = LookTwiceSettings(source="learned", form="published", dim=DIM)
    with seeded_init(11, "published"):
        adapter = build_look_twice(
            settings=settings,
            level_dim=8,
            final_dim=WIDTH,
            num_levels=DEPTHS,
            num_tokens=NUM_TOKENS,
            project=projector.__call__,
        )
    assert isinstance(adapter, PublishedAdapter)
    return adapter


def test_the_adapter_gives_r_and_then_the_four_tokens_through_the_models_projector():
    projector = torch.nn.Linear(WIDTH, 7)
    adapter, evidence = _adapter(projector), _evidence()
    output = adapter(evidence, projector(evidence.final))
    found = adapter.expert(evidence)
    assert output.second_look.shape == (2, adapter.num_tokens, 7) == (2, 5, 7)
    torch.testing.assert_close(output.second_look[:, 0], projector(found.view_vectors))
    torch.testing.assert_close(output.second_look[1, 1:], projector(found.tile_tokens[2]))
    assert torch.equal(output.image_logits, found.image_logits)


def test_the_projector_stays_the_models_own():
    projector = torch.nn.Linear(WIDTH, 7)
    adapter = _adapter(projector)
    assert all(parameter is not own for parameter in projector.parameters() for own in adapter.parameters())
    assert all(name.startswith("expert.") for name in adapter.state_dict())


def test_every_parameter_but_the_key_bias_learns():
    adapter, evidence = _adapter(torch.nn.Linear(WIDTH, 7)), _evidence()
    output = adapter(evidence, torch.zeros(3, NUM_TOKENS, 7))
    (output.second_look.square().sum() + output.image_logits.square().sum()).backward()
    silent = [name for name, p in adapter.named_parameters() if p.grad is None or float(p.grad.abs().max()) < 1e-9]
    assert set(silent) <= {"expert.key.bias"}  # a constant added to every logit of a softmax changes nothing


@pytest.mark.parametrize(
    "settings", [{"source": "fused"}, {"source": "map"}, {"source": "learned", "score_noise": 0.1}]
)
def test_the_published_form_goes_with_the_learned_source_alone(settings):
    with pytest.raises(ConfigError, match="form 'published' goes with source 'learned'"):
        LookTwiceSettings(form="published", **settings)


def test_a_model_whose_tiles_differ_cannot_have_the_published_form():
    with pytest.raises(ConfigError, match="needs a model whose tiles all have one grid"):
        build_look_twice(
            settings=LookTwiceSettings(source="learned", form="published"),
            level_dim=8,
            final_dim=WIDTH,
            num_levels=DEPTHS,
            num_tokens=None,
            project=torch.nn.Linear(WIDTH, 7).__call__,
        )
