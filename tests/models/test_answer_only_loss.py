"""The embedded model computes logits where an answer is taught, and nowhere else."""

import torch
from torch.nn import functional as F

from velm_train.core.batch import IGNORE_INDEX


def test_the_output_layer_sees_supervised_positions_alone_and_the_loss_is_that_of_all_logits(
    make_model, make_batch, trained
):
    model = trained(make_model()).eval()
    batch = make_batch(model, answer=3)
    seen = []
    causal = model.language_model.get_base_model()
    handle = causal.get_output_embeddings().register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    with torch.no_grad():
        output = model.training_output(batch)
        handle.remove()
        embeds, _ = model.embed(batch)
        logits = causal(inputs_embeds=embeds, attention_mask=batch.attention_mask).logits
    assert seen == [(9, 32)]
    slow = F.cross_entropy(
        logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), ignore_index=IGNORE_INDEX, reduction="sum"
    )
    torch.testing.assert_close(output.language_loss_sum, slow, rtol=1e-6, atol=0)
    assert output.num_supervised == 9
