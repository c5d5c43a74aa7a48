"""TuSimple's files of labels and predictions, as small as the tests of its metric write them."""

from __future__ import annotations

import json

LABEL = {"raw_file": "a", "lanes": [[5, 6, 7]], "h_samples": [10, 20, 30]}
GOOD = {"raw_file": "a", "lanes": [[5, 6, 7]], "run_time": 1}


def write(folder, predictions, labels=None):
    (folder / "gt.json").write_text("".join(json.dumps(line) + "\n" for line in labels or [LABEL]))
    (folder / "pred.json").write_text("".join(f"{p if isinstance(p, str) else json.dumps(p)}\n" for p in predictions))
    return folder / "gt.json", folder / "pred.json"
