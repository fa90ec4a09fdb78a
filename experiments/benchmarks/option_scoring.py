"""Times the closed list in one packed pass against one full pass per option, all in one batch, and writing.

    OMP_NUM_THREADS=1 python experiments/benchmarks/option_scoring.py --assets ~/.cache/velm_train/assets

The embedded model with its real weights and look-twice adapter, one question about two views, lists of 4, 8
and 16 options of three tokens. The ways take turns; CPU seconds of the process, medians:

    packed      the prompt once, every option behind it, blind to the others (models/option_scoring.py)
    one by one  a full pass of prompt and option, option after option
    batched     the same passes in one batch, the pictures and prompt repeated
    written     a greedy response of three tokens, from a cached prompt: one answer, and no likelihood of the others

The first three give the same likelihoods; the largest difference is printed.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from look_twice import VIEWS_PER_ROW, embedded_models, make_batch, make_evidence, median_seconds, void

from velm_train.assets.library import AssetLibrary
from velm_train.core.batch import IGNORE_INDEX, Batch
from velm_train.core.progress import SilentProgress
from velm_train.models.embedded.embedded import EmbeddedVLM
from velm_train.reporting.manifest import describe_machine

NUM_OPTIONS = (4, 8, 16)
TOKENS_PER_OPTION = 3


def make_options(count: int) -> list[list[int]]:
    """Returns options of random tokens."""
    generator = torch.Generator().manual_seed(count)
    return torch.randint(5, 1000, (count, TOKENS_PER_OPTION), generator=generator).tolist()


def with_answers(batch: Batch, options: Sequence[Sequence[int]]) -> Batch:
    """Returns the one prompt of a batch once for each option, with the option behind it as its answer."""
    count = len(options)
    answers = torch.tensor(options)
    prompts = batch.input_ids.expand(count, -1)
    evidence = batch.evidence
    num_views = len(batch.view_sample)
    index = torch.arange(num_views).repeat(count)
    return Batch(
        input_ids=torch.cat([prompts, answers], dim=1),
        attention_mask=torch.ones(count, prompts.shape[1] + answers.shape[1], dtype=torch.long),
        labels=torch.cat([torch.full_like(prompts, IGNORE_INDEX), answers], dim=1),
        evidence=type(evidence)(
            final=evidence.final[index],
            levels=evidence.levels[:, index],
            grid_hw=evidence.grid_hw[index],
            view_index=torch.arange(num_views * count),
            is_global=evidence.is_global[index],
            valid=evidence.valid[index],
            map_scores=evidence.map_scores[index],
        ),
        view_sample=torch.arange(count).repeat_interleave(num_views),
        view_anomalous=batch.view_anomalous.repeat(count),
        sample_ids=tuple(str(number) for number in range(count)),
    )


def log_likelihoods_one_by_one(model: EmbeddedVLM, batch: Batch, options: Sequence[Sequence[int]]) -> torch.Tensor:
    """Returns every option's log-likelihood by a full pass of its own."""
    with torch.no_grad():
        losses = [model.training_output(with_answers(batch, [option])).language_loss_sum for option in options]
    return -torch.stack(losses)


def tasks_of(model: EmbeddedVLM, batch: Batch, options: list[list[int]]) -> dict[str, Callable[[], None]]:
    """Returns the four ways by name."""
    repeated = with_answers(batch, options)

    def batched() -> None:
        with torch.no_grad():
            model.training_output(repeated)

    return {
        "packed": lambda: void(model.option_log_likelihoods(batch, options=[options])),
        "one by one": lambda: void(log_likelihoods_one_by_one(model, batch, options)),
        "batched": batched,
        "written": lambda: void(model.generate(batch, max_new_tokens=TOKENS_PER_OPTION)),
    }


def compare(model: EmbeddedVLM, *, num_words: int, repeats: int) -> list[dict[str, Any]]:
    """Returns one row a list length: seconds, ratios to packed, and the largest difference of a log-likelihood."""
    rows = []
    evidence = make_evidence(model, num_views=VIEWS_PER_ROW)
    whole = make_batch(model, evidence, num_rows=1, num_words=num_words, answer=0)
    for count in NUM_OPTIONS:
        options = make_options(count)
        packed = model.option_log_likelihoods(whole, options=[options])[0]
        difference = float((packed - log_likelihoods_one_by_one(model, whole, options)).abs().max())
        seconds = median_seconds(tasks_of(model, whole, options), repeats=repeats)
        rows.append({"options": count, "seconds": seconds, "largest difference": difference})
    return rows


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints milliseconds and ratios."""
    print(f"\n{title}\n{'options':>8}" + "".join(f"{name:>22}" for name in rows[0]["seconds"]) + "   difference")
    for row in rows:
        packed = row["seconds"]["packed"]
        cells = [f"{1e3 * value:11.1f} ms {value / packed:6.2f}x" for value in row["seconds"].values()]
        print(f"{row['options']:8}" + "".join(f"{cell:>22}" for cell in cells) + f"   {row['largest difference']:.1e}")


def main() -> None:
    """Runs both prompt lengths."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, required=True, help="folder of the fetched assets")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path, help="JSON file for all figures")
    args = parser.parse_args()
    machine = describe_machine([])
    print(f"{machine.cpu}, {torch.get_num_threads()} thread(s), torch {torch.__version__}, float32")
    model = embedded_models(AssetLibrary(args.assets, progress=SilentProgress()))["fused"]
    model.eval()
    figures: dict[str, Any] = {"machine": str(machine), "threads": torch.get_num_threads()}
    with model.merged_for_inference():
        for num_words in (60, 400):
            title = f"embedded model, 2 views and {num_words} words"
            figures[title] = compare(model, num_words=num_words, repeats=args.repeats)
            show(title, figures[title])
    if args.output:
        args.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
