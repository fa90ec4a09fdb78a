"""How sure the model is of each right answer goes in; orders of samples that show the unsure ones more often come out.

    epoch 0: every sample once | epoch 1: by what was measured shortly before it | epoch 2: ...

At the end of each epoch the model answers every training sample as in evaluation: without dropout, augmentation and
gradients. A sample's confidence is the probability of its right answer, per token, p = exp(-loss / supervised tokens);
its hardness is 1 - p, the factor by which a focal loss of focusing 1 would weigh it (Lin et al., ICCV 2017, eq. 4).
Drawing by the latest known loss rather than weighing by it is online batch selection (Loshchilov and Hutter, ICLR
workshop 2016). Only training samples are measured. The measured values are part of the checkpoint, so that a resumed
run draws the orders of an uninterrupted one.
"""

from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Float, Int

from velm_train.core.seeding import generator

Confidence = Float[np.ndarray, " samples"]
"""Probability of the right answer of every training sample, 0..1."""


class HardExamples:
    """Keeps what was measured before each epoch, and orders epochs by it."""

    def __init__(self, *, share: float) -> None:
        """Starts with nothing measured.

        Args:
            share: of an epoch's visits that are drawn by hardness, 0 to 1; the others go to all samples alike, so that
                easy ones are not forgotten and one with a wrong label cannot fill an epoch.
        """
        self.share = share
        self._measured: dict[int, Confidence] = {}

    def remember(self, epochs: Iterable[int], confidence: Confidence) -> None:
        """Keeps what these epochs will be ordered by."""
        self._measured |= dict.fromkeys(epochs, confidence.astype(np.float32))

    def order(self, num_samples: int, *, seed: int, epoch: int) -> Int[np.ndarray, " visits"]:
        """Returns the sample indices of one epoch, as many as there are samples.

        A sample comes as often as expected, up to one (systematic resampling, Kitagawa, J. Comput. Graph. Stat. 1996).
        Every sample comes once in an epoch that nothing was measured for.

        Args:
            num_samples: 1 or more.
            seed: root seed.
            epoch: 0 or more.
        """
        rng = generator(seed, "sample_order", "hard", str(epoch))
        shuffled = rng.permutation(num_samples)
        if epoch not in self._measured:
            return shuffled
        places = np.cumsum(self._expected_visits(epoch)[shuffled])
        places[-1] = num_samples  # whatever rounding made of it
        ends = np.floor(places + rng.random()).astype(np.int64)
        visits: np.ndarray = np.repeat(shuffled, np.diff(ends, prepend=0))
        return rng.permutation(visits)

    def _expected_visits(self, epoch: int) -> Float[np.ndarray, " samples"]:
        hardness = 1.0 - self._measured[epoch].astype(np.float64)
        mean = hardness.mean()
        relative = hardness / mean if mean > 0 else np.ones_like(hardness)
        return (1.0 - self.share) + self.share * relative

    def state(self) -> dict[int, torch.Tensor]:
        """Returns what was measured, by epoch."""
        return {epoch: torch.from_numpy(values.copy()) for epoch, values in self._measured.items()}

    def load_state(self, state: dict[int, torch.Tensor]) -> None:
        """Takes over what `state` returned."""
        self._measured = {epoch: values.numpy() for epoch, values in state.items()}
