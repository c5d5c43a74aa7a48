"""A detector whose lane is known: the brightest column of what it sees."""

from __future__ import annotations

ADAPTER = '''
import torch

from detectors.base import Detector
from detectors.meta import Configuration, Data, DetectorMeta, InputSize, Recipe
from harness.lanes import Lane

SIZE = InputSize(**KEYS)
RECIPE = Recipe(optimizer="sgd", learning_rate=0.1, schedule="constant", epochs=1, batch_size=1, confidence_threshold=0.5)
META = DetectorMeta(
    name="brightest", paper="none", year=2000, family="row-wise", backbone="none", upstream="none", licence="none",
    configurations={"culane": Configuration(input=SIZE, recipe=RECIPE)},
)


class Brightest(Detector):
    """One lane: the brightest column of its input, `add` columns further right, sure by how bright it is."""

    metas = {"brightest": META}
    architecture = Data

    def __init__(self, meta, form):
        super().__init__(meta, form)
        self.add = torch.nn.Parameter(torch.zeros(1))

    def taps(self):
        return ()

    def encode_targets(self, lanes, geometry):
        return {}

    def forward(self, images):
        return images.float().mean((1, 2)) / 255

    def losses(self, outputs, batch):
        return {}

    def decode(self, outputs, geometries):
        if self.add.item() > 1000:
            raise KeyboardInterrupt
        found = []
        for (score, column), geometry in zip(zip(*[v.tolist() for v in outputs.max(1)]), geometries):
            x = column + self.add.item()
            points = geometry.to_original([[x, geometry.network[0] - 1.0], [x, 0.0]])
            found.append([Lane(points, score)] if score >= self.configuration.recipe.confidence_threshold else [])
        return found
'''


def brightest(**size: tuple[int, ...]) -> str:
    """The text of its adapter file. size: of `InputSize`."""
    return ADAPTER.replace("**KEYS", ", ".join(f"{key}={value}" for key, value in size.items()))
