"""A family's special tokens in, a small byte-level BPE tokenizer with a chat template out."""

from collections.abc import Mapping, Sequence

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

_SENTENCES = (
    "Which of these defects does the picture show? Answer with one name from the list.",
    "scratch, dent, crack, hole, stain, thread, cut, contamination, no defect, none of these",
    "The first picture is a good reference, the second one shows the part to be judged.",
)
_MERGES = 120
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}IMAGE{% endif %}"
    "{% endfor %}{% endif %}STOP\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tokenizer(
    named: Mapping[str, str], *, further: Sequence[str] = (), stop: str = "<|im_end|>"
) -> PreTrainedTokenizerBase:
    """Trains the tokenizer; the same arguments give the same one.

    Args:
        named: attribute of the tokenizer -> special token, "image_token" or "context_image_token" among them.
        further: special tokens without an attribute.
        stop: what ends a turn.
    """
    special = list(dict.fromkeys(["<pad>", "<|im_start|>", "<|im_end|>", *named.values(), *further]))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=len(special) + len(alphabet) + _MERGES,
        special_tokens=special,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    tokenizer.train_from_iterator(_SENTENCES, trainer)
    image = named["image_token" if "image_token" in named else "context_image_token"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token=stop,
        extra_special_tokens=dict(named),
        chat_template=_CHAT_TEMPLATE.replace("IMAGE", image).replace("STOP", stop),
    )
