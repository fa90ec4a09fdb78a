"""The composed model: identities with its base, gradients, padding, one shift."""

import dataclasses

import pytest
import torch
from torch.nn import functional as F

from velm_train.core.batch import IGNORE_INDEX
from velm_train.core.errors import ConfigError
from velm_train.models.embedded.vision import VisionSettings
from velm_train.models.look_twice.adapter import LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.models.prefix import logits_of
from velm_train.models.protocol import VisionLanguageModel

OFF = LookTwiceSettings(source="off")
SOURCES = ["map", "learned", "fused", "random", "centre", "oracle", "off"]
EVERY_FORM = [LookTwiceSettings(source=source, dim=16) for source in SOURCES]
EVERY_FORM += [LookTwiceSettings(source="learned", form="published", dim=16)]
OPTIONS = [[[20, 2], [21, 22, 23, 2]], [[30, 2]], [[31], [20, 2]]]


def _full_logits(model, batch):
    embeds, _ = model.embed(batch)
    return model.language_model(inputs_embeds=embeds, attention_mask=batch.attention_mask).logits


def test_the_model_satisfies_the_protocol(make_model):
    model = make_model()
    assert isinstance(model, VisionLanguageModel)
    assert (model.token_grid_hw, model.num_first_look, model.num_second_look) == ((4, 4), 4, 5)
    assert make_model(look_twice=OFF).num_second_look == 0


def test_without_adapter_the_prompt_path_equals_the_base_model(make_model, make_batch, tiny_language_model):
    model, base = make_model(look_twice=OFF), tiny_language_model()
    batch = make_batch(model)
    first_look, look = model.look(batch.evidence)
    assert look is None
    words = base.get_input_embeddings()
    for row, length in enumerate(batch.attention_mask.sum(dim=1).tolist()):
        text = words(batch.input_ids[row, 5:length])
        embeds = torch.cat([words(torch.tensor([1])), first_look[row], text])[None]
        expected = base(inputs_embeds=embeds).logits[0]
        torch.testing.assert_close(_full_logits(model, batch)[row, :length], expected, atol=1e-4, rtol=1e-4)


def test_the_adapter_leaves_the_first_look_tokens_as_they_are(make_model, make_batch):
    with_adapter, without = make_model(), make_model(look_twice=OFF)
    evidence = make_batch(without).evidence
    assert torch.equal(with_adapter.look(evidence)[0], without.look(evidence)[0])


def test_source_off_equals_a_model_whose_adapter_is_taken_out_bit_by_bit(make_model, trained, make_batch):
    with_adapter, without = trained(make_model()), trained(make_model(look_twice=OFF))
    batch = make_batch(without, answer=3)
    with with_adapter.first_look_only():
        assert torch.equal(_full_logits(with_adapter, batch), _full_logits(without, batch))
        outputs = [model.training_output(batch) for model in (with_adapter, without)]
    assert torch.equal(outputs[0].language_loss_sum, outputs[1].language_loss_sum)
    assert outputs[0].image_logits is outputs[1].image_logits is None


def test_visual_tokens_stand_in_the_places_of_their_placeholders(make_model, make_batch):
    model = make_model()
    batch = make_batch(model)
    embeds, look = model.embed(batch)
    first_look, _ = model.look(batch.evidence)
    for row in range(3):
        assert torch.equal(embeds[row, 1:5], first_look[row])
        assert torch.equal(embeds[row, 5:10], look.second_look[row])


def test_the_loss_is_the_shifted_cross_entropy_of_the_full_logits(make_model, trained, make_batch):
    model = trained(make_model())
    batch = make_batch(model, answer=3)
    output = model.training_output(batch)
    expected = F.cross_entropy(
        _full_logits(model, batch)[:, :-1].flatten(0, 1),
        batch.labels[:, 1:].flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="sum",
    )
    assert output.num_supervised == 9
    torch.testing.assert_close(output.language_loss_sum, expected, atol=1e-4, rtol=1e-5)


def test_the_output_layer_sees_supervised_positions_only(make_model, make_batch):
    model = make_model()
    rows_seen = []
    head = model.language_model.get_base_model().get_output_embeddings()
    hook = head.register_forward_hook(lambda *call: rows_seen.append(tuple(call[2].shape)))
    model.training_output(make_batch(model, answer=2))
    hook.remove()
    assert rows_seen == [(6, 64)]


def test_a_batch_without_answers_has_no_loss(make_model, make_batch):
    output = make_model().training_output(make_batch(make_model()))
    assert (output.language_loss_sum.item(), output.num_supervised) == (0.0, 0)


def test_rows_do_not_depend_on_the_rows_beside_them(make_model, trained, make_batch):
    model = trained(make_model())
    short, long = make_batch(model, text_lengths=(5,)), make_batch(model, text_lengths=(5, 20))
    alone, beside = (model.option_log_likelihoods(b, options=OPTIONS[: len(b.sample_ids)])[0] for b in (short, long))
    torch.testing.assert_close(alone, beside, atol=1e-4, rtol=0)


def test_option_scores_equal_full_sequences_with_visual_tokens(make_model, trained, make_batch):
    model = trained(make_model())
    batch = make_batch(model)
    scores = model.option_log_likelihoods(batch, options=OPTIONS)
    embeds, _ = model.embed(batch)
    words = model.language_model.get_input_embeddings()
    for row, length in enumerate(batch.attention_mask.sum(dim=1).tolist()):
        for number, option in enumerate(OPTIONS[row]):
            full = torch.cat([embeds[row, :length], words(torch.tensor(option))])[None]
            logits = model.language_model(inputs_embeds=full).logits[0].log_softmax(-1)
            expected = sum(logits[length - 1 + place, token] for place, token in enumerate(option))
            torch.testing.assert_close(scores[row][number], expected, atol=1e-4, rtol=0)


def test_generate_starts_from_the_logits_of_forward(make_model, trained, make_batch):
    model = trained(make_model())
    batch = make_batch(model)
    last = batch.attention_mask.sum(dim=1) - 1
    forward = _full_logits(model, batch)[torch.arange(3), last]
    language_model = model.language_model.get_base_model()
    prefilled = logits_of(language_model, model.prefill(batch).last_hidden)
    torch.testing.assert_close(prefilled, forward, atol=1e-5, rtol=1e-5)
    first = [response[:1] for response in model.generate(batch, max_new_tokens=4)]
    assert first == [[token] if token != 2 else [] for token in forward.argmax(-1).tolist()]


@pytest.mark.parametrize("look_twice", EVERY_FORM, ids=lambda settings: f"{settings.form}-{settings.source}")
def test_exactly_the_trainable_parameters_get_a_gradient(look_twice, make_model, trained, make_batch):
    source = look_twice.source
    model = trained(make_model(look_twice=look_twice))  # LoRA's A learns once B has moved
    batch = make_batch(model, answer=3)
    batch.evidence.map_scores[:] = torch.rand(batch.evidence.map_scores.shape) * 2
    truth = torch.rand(batch.evidence.map_scores.shape)
    batch = dataclasses.replace(batch, evidence=dataclasses.replace(batch.evidence, gt_scores=truth))
    output = model.training_output(batch)
    loss = output.language_loss_sum
    (loss if output.image_logits is None else loss + output.image_logits.square().sum()).backward()
    groups = model.trainable_groups()
    assert list(groups) == ["lora", "projector"] + ([] if source == "off" else ["look_twice"])
    learning = {id(parameter) for parameters in groups.values() for parameter in parameters}
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (id(parameter) in learning), name
        if parameter.grad is not None and not name.endswith(("class_attention.bias", "key.bias")):
            assert parameter.grad.abs().max() > 0, name


def test_fresh_lora_learns_its_second_factor_first(make_model, make_batch):
    model = make_model()
    model.training_output(make_batch(model, answer=3)).language_loss_sum.backward()
    gradients = {
        name: float(parameter.grad.abs().max())
        for name, parameter in model.language_model.named_parameters()
        if parameter.grad is not None
    }
    assert all(value == 0 for name, value in gradients.items() if "lora_A" in name)
    assert all(value > 0 for name, value in gradients.items() if "lora_B" in name)


def test_scoring_switches_dropout_off_and_restores_every_mode(make_model, trained, make_batch):
    model = trained(make_model(lora=LoraSettings(r=4, alpha=8.0, dropout=0.5)))
    model.train()
    model.projector.eval()
    modes = [module.training for module in model.modules()]
    batch = make_batch(model)
    first = model.option_log_likelihoods(batch, options=OPTIONS)
    second = model.option_log_likelihoods(batch, options=OPTIONS)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert [module.training for module in model.modules()] == modes


def test_merged_scores_equal_unmerged_ones(make_model, trained, make_batch):
    model = trained(make_model())
    batch = make_batch(model)
    before = model.option_log_likelihoods(batch, options=OPTIONS)
    with model.merged_for_inference():
        inside = model.option_log_likelihoods(batch, options=OPTIONS)
    after = model.option_log_likelihoods(batch, options=OPTIONS)
    for a, b, c in zip(before, inside, after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=0)
        assert torch.equal(a, c)


def test_the_same_seed_builds_the_same_model_and_trains_it_alike(make_model, make_batch):
    def losses(seed):
        model = make_model(seed=seed)
        parameters = [parameter for group in model.trainable_groups().values() for parameter in group]
        optimiser = torch.optim.AdamW(parameters, lr=1e-2)
        batch = make_batch(model, answer=3)
        history = []
        for _ in range(4):
            optimiser.zero_grad()
            loss = model.training_output(batch).language_loss_sum
            loss.backward()
            optimiser.step()
            history.append(loss.item())
        return history

    first = losses(1)
    assert losses(1) == first
    assert losses(2) != first
    assert first[-1] < first[0]


def test_the_map_changes_the_second_look(make_model, make_batch):
    model = make_model(look_twice=LookTwiceSettings(source="map", dim=16))
    evidence = make_batch(model).evidence
    evidence.map_scores[:, 3] = 3.0
    corner = model.look(evidence)[1].second_look
    evidence.map_scores[:] = 0.0
    evidence.map_scores[:, 12] = 3.0
    assert not torch.allclose(model.look(evidence)[1].second_look, corner, atol=1e-3)


def test_a_batch_with_too_few_placeholders_is_an_error(make_model, make_batch):
    model = make_model()
    batch = make_batch(model)
    batch.input_ids[0, 1] = 7
    with pytest.raises(AssertionError, match="11 placeholders in the batch for 12 visual tokens"):
        model.embed(batch)


def test_the_identity_ignores_what_learns(make_model):
    plain = make_model()
    assert make_model(seed=3, look_twice=OFF, lora=LoraSettings(r=2)).identity == plain.identity
    assert make_model(weights_identity="other").identity != plain.identity


def test_train_does_not_reach_the_towers(make_model):
    model = make_model().train()
    assert {name for name, _ in model.named_children()} == {"language_model", "projector", "look_twice"}


def test_bfloat16_language_model_keeps_what_learns_in_float32(make_model, make_batch):
    model = make_model()
    model.language_model.get_base_model().model.embed_tokens.to(torch.bfloat16)
    embeds, _ = model.embed(make_batch(model))
    assert embeds.dtype == torch.bfloat16
    assert {p.dtype for group in model.trainable_groups().values() for p in group} == {torch.float32}


def test_a_first_look_grid_that_does_not_divide_is_refused(tiny_towers, make_model):
    model = make_model()
    settings = dataclasses.replace(VisionSettings(), first_look_grid=4)
    with pytest.raises(ConfigError, match="first_look_grid is 4"):
        type(model)(
            towers=tiny_towers(settings),
            language_model=model.language_model,
            language_model_identity="tiny",
            projector=model.projector,
            look_twice=None,
        )
