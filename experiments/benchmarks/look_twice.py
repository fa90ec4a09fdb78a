"""Times what the look-twice adapter adds to a training step and to an answer, and counts what it adds to a 7B model.

    OMP_NUM_THREADS=1 python experiments/benchmarks/look_twice.py --assets ~/.cache/velm_train/assets

Three parts. The embedded model with its real weights, with and without adapter, on the same views and questions: one
training step (forward, backward, AdamW), the scores of eight options, and a response of eight tokens; the two models
take turns. A small random language model with a prompt of 1,000 tokens and 17 second-look tokens (4 x 4 bins and the
global one). And the arithmetic of Qwen2.5-VL-7B (look_twice_counts.py), computed from layer sizes and not measured.

The adapter costs twice: its own heads, and K more tokens for the language model. "adapter alone" is the first.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from look_twice_counts import show_counts

from velm_train.assets.library import AssetLibrary
from velm_train.core.batch import IGNORE_INDEX, Batch, VisionEvidence
from velm_train.core.progress import SilentProgress
from velm_train.models.build import assemble_embedded, build_embedded, embedded_towers
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.models.embedded.vision import VisionSettings
from velm_train.models.look_twice.adapter import LookTwice, LookTwiceSettings
from velm_train.models.lora import LoraSettings
from velm_train.reporting.manifest import describe_machine
from velm_train.training.losses import image_loss_sum

NUM_ANSWER, NUM_RESPONSE, NUM_OPTIONS, VIEWS_PER_ROW = 4, 8, 8, 2


def make_batch(model: EmbeddedVLM, evidence: VisionEvidence, *, num_rows: int, num_words: int, answer: int) -> Batch:
    """Returns rows of two views and random words; the last `answer` of them are supervised."""
    generator = torch.Generator().manual_seed(0)
    visual = [model.image_token_id] * model.num_first_look + [model.inspect_token_id] * model.num_second_look
    words = torch.randint(5, 1000, (num_rows, num_words), generator=generator)
    input_ids = torch.cat([torch.tensor([visual * VIEWS_PER_ROW] * num_rows), words], dim=1)
    labels = torch.full_like(input_ids, IGNORE_INDEX)
    if answer:
        labels[:, -answer:] = input_ids[:, -answer:]
    num_views = num_rows * VIEWS_PER_ROW
    return Batch(
        input_ids=input_ids,
        attention_mask=torch.ones_like(input_ids),
        labels=labels,
        evidence=evidence,
        view_sample=torch.arange(num_rows).repeat_interleave(VIEWS_PER_ROW),
        view_anomalous=(torch.arange(num_views) % 2).float(),
        sample_ids=tuple(str(row) for row in range(num_rows)),
    )


def make_evidence(model: EmbeddedVLM, *, num_views: int) -> VisionEvidence:
    """Encodes noise pictures; the towers are frozen and cached in a run, so they are no part of any time."""
    rng = np.random.default_rng(0)
    evidence = model.encode_views([rng.integers(0, 256, (90, 120, 3), dtype=np.uint8) for _ in range(num_views)])
    evidence.map_scores.copy_(2 * torch.rand(evidence.map_scores.shape, generator=torch.Generator().manual_seed(1)))
    return evidence


def training_step(model: EmbeddedVLM, batch: Batch) -> Callable[[], None]:
    """Returns one optimiser step."""
    parameters = [one for group in model.trainable_groups().values() for one in group]
    optimiser = torch.optim.AdamW(parameters, lr=1e-5)
    model.train()

    def step() -> None:
        optimiser.zero_grad()
        output = model.training_output(batch)
        loss = output.language_loss_sum / output.num_supervised
        if output.image_logits is not None:
            loss = loss + 0.1 * image_loss_sum(output.image_logits, batch.view_anomalous, pos_weight=1.0)
        loss.backward()
        optimiser.step()

    return step


def adapter_step(model: EmbeddedVLM, evidence: VisionEvidence) -> Callable[[], None]:
    """Returns forward and backward of the adapter by itself."""
    adapter = model.look_twice
    assert adapter is not None
    projected = model.projector(evidence.final).detach()

    def step() -> None:
        output = adapter(evidence, projected)
        (output.second_look.square().mean() + output.image_logits.mean()).backward()

    return step


def adapter_forward(model: EmbeddedVLM, evidence: VisionEvidence) -> Callable[[], None]:
    """Returns the adapter's forward pass by itself."""
    adapter = model.look_twice
    assert adapter is not None
    with torch.no_grad():
        projected = model.projector(evidence.final)

    def step() -> None:
        with torch.no_grad():
            adapter(evidence, projected)

    return step


def median_seconds(tasks: Mapping[str, Callable[[], None]], *, repeats: int) -> dict[str, float]:
    """Runs the tasks in turns, another one first each time, after one round that does not count.

    Counts the process's CPU time, which other work on a shared machine does not change; with one thread on an idle
    machine it is the time on the clock.
    """
    names = list(tasks)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(repeats + 1):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            started = time.process_time()
            tasks[name]()
            if turn:
                seconds[name].append(time.process_time() - started)
    return {name: statistics.median(values) for name, values in seconds.items()}


def memory(adapter: LookTwice, evidence: VisionEvidence, projected: torch.Tensor) -> dict[str, float]:
    """Returns the MiB that the adapter adds in training: weights, gradients, AdamW's moments, what backward keeps."""
    kept: dict[int, int] = {}
    own = {parameter.untyped_storage().data_ptr() for parameter in adapter.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    held = [evidence.final, evidence.levels, projected]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        output = adapter(evidence, projected)
    for tensor in held:
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    weights = sum(parameter.numel() for parameter in adapter.parameters())
    activations = sum(kept.values())
    del output
    return {"weights and AdamW": 16 * weights / 2**20, "kept for backward": activations / 2**20}


def compare(
    models: dict[str, EmbeddedVLM], *, num_rows: int, num_words: int, repeats: int
) -> dict[str, dict[str, float]]:
    """Returns median seconds of every task with and without adapter."""
    with_adapter = models["fused"]
    evidence = make_evidence(with_adapter, num_views=num_rows * VIEWS_PER_ROW)
    batches = {
        name: make_batch(model, evidence, num_rows=num_rows, num_words=num_words, answer=NUM_ANSWER)
        for name, model in models.items()
    }
    options = [[[20 + number, 2] for number in range(NUM_OPTIONS)]] * num_rows
    found = {}
    steps = {name: training_step(model, batches[name]) for name, model in models.items()}
    steps["adapter alone"] = adapter_step(with_adapter, evidence)
    found["training step"] = median_seconds(steps, repeats=repeats)
    forward = adapter_forward(with_adapter, evidence)

    def scoring(model: EmbeddedVLM, batch: Batch) -> Callable[[], None]:
        return lambda: void(model.option_log_likelihoods(batch, options=options))

    def writing(model: EmbeddedVLM, batch: Batch) -> Callable[[], None]:
        return lambda: void(model.generate(batch, max_new_tokens=NUM_RESPONSE))

    for title, make in ((f"{NUM_OPTIONS} options scored", scoring), (f"{NUM_RESPONSE} tokens written", writing)):
        tasks = {name: make(model, batches[name]) for name, model in models.items()} | {"adapter alone": forward}
        found[title] = median_seconds(tasks, repeats=repeats)
    return found


def void(_value: object) -> None:
    """Forgets a result."""


def show(title: str, found: Mapping[str, Mapping[str, float]]) -> None:
    """Prints seconds and ratios."""
    print(f"\n{title}")
    print(f"{'':24}{'without':>10}{'with':>10}{'ratio':>8}{'adapter alone':>15}{'share':>8}   median CPU ms")
    for task, seconds in found.items():
        without, fused, alone = seconds["off"], seconds["fused"], seconds["adapter alone"]
        row = f"{1e3 * without:10.1f}{1e3 * fused:10.1f}{fused / without:8.3f}"
        print(f"{task:24}{row}{1e3 * alone:15.2f}{100 * alone / without:7.1f}%")


def embedded_models(assets: AssetLibrary) -> dict[str, EmbeddedVLM]:
    """Returns the default model with and without adapter."""
    vision = VisionSettings(level_layers=("block6", "block12"))
    return {
        source: build_embedded(
            assets=assets,
            vision=vision,
            look_twice=LookTwiceSettings(source=source, steepness=8.0),
            lora=LoraSettings(),
            seed=0,
        )
        for source in ("off", "fused")
    }


def small_models(assets: AssetLibrary) -> dict[str, EmbeddedVLM]:
    """Returns a random 4-layer language model of width 256 behind the real towers, with and without adapter."""
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - after velm_train, which mends torchvision

    config = LlamaConfig(
        vocab_size=2000,
        hidden_size=256,
        intermediate_size=1024,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        pad_token_id=2,
        eos_token_id=1999,
    )
    models = {}
    for source in ("off", "fused"):
        torch.manual_seed(0)
        models[source] = assemble_embedded(
            towers=embedded_towers(assets=assets, settings=VisionSettings(level_layers=("block6", "block12"))),
            language_model=LlamaForCausalLM(config),
            language_model_name="small",
            language_model_identity="small",
            look_twice=LookTwiceSettings(source=source, pool=4),
            lora=LoraSettings(),
            seed=0,
        )
    return models


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of the fetched assets")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    return parser.parse_args(words)


def main() -> None:
    """Runs all three parts."""
    args = parse()
    machine = describe_machine([])
    print(f"{machine.cpu}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, float32")
    assets = AssetLibrary(args.assets, progress=SilentProgress())
    figures: dict[str, Any] = {"machine": str(machine), "threads": torch.get_num_threads()}
    cases = (
        ("embedded model, 2 rows of 2 views and 150 words, K = 5", embedded_models, 2, 150),
        ("random model of width 256, 1 row of 2 views and 1,000 words, K = 17", small_models, 1, 1000),
    )
    for title, make, num_rows, num_words in cases:
        models = make(assets)
        found = compare(models, num_rows=num_rows, num_words=num_words, repeats=args.repeats)
        show(title, found)
        fused = models["fused"]
        evidence = make_evidence(fused, num_views=num_rows * VIEWS_PER_ROW)
        adapter = fused.look_twice
        assert adapter is not None
        added = memory(adapter, evidence, fused.projector(evidence.final).detach())
        print("memory added, MiB: " + ", ".join(f"{name} {mebibytes:.1f}" for name, mebibytes in added.items()))
        figures[title] = {"seconds": found, "memory_mib": added}
    figures["computed"] = show_counts()
    if args.output:
        args.output.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
