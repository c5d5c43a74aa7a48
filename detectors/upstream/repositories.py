"""The upstream repositories that this project knows, each at the commit that its facts were taken from: data only."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Repository:
    """A public repository at the commit that is compared and bridged.

    licence: SPDX identifier, None where the repository has no licence file: such code runs from the user's own checkout only.
    """

    url: str
    commit: str
    licence: str | None


REPOSITORIES: dict[str, Repository] = {
    "CLRNet": Repository("https://github.com/Turoad/CLRNet", "7269e9d1c1c650343b6c7febb8e764be538b1aed", "Apache-2.0"),
    "CLRKDNet": Repository(
        "https://github.com/weiqingq/CLRKDNet", "6345d8b6109a0a8dc834d3eb48ba7c1d5b93a0d8", "Apache-2.0"
    ),
    "CLRerNet": Repository(
        "https://github.com/hirotomusiker/CLRerNet", "21761ed997ff63186d3d0a616613ac5693616af8", "Apache-2.0"
    ),
    "GANet": Repository("https://github.com/Wolfwjs/GANet", "8685a61fdccdf20a2846a99ba1f83135b772ba97", "MIT"),
    "LSTR": Repository(
        "https://github.com/liuruijin17/LSTR", "c8fe59a1d8e1c456c982c9e954ee660ae9116b49", "BSD-3-Clause"
    ),
    "LaneATT": Repository(
        "https://github.com/lucastabelini/LaneATT", "2f8583ba14eccba05e6779668bc3a38bc751984a", "MIT"
    ),
    "PolarRCNN": Repository("https://github.com/ShqWW/PolarRCNN", "7cc0c094ebd187992ab475d93baf4a4469ffdddc", None),
    "PolyLaneNet": Repository(
        "https://github.com/lucastabelini/PolyLaneNet", "6155ce2e7d3841c46a0035a25acc9d2e304d9856", "MIT"
    ),
    "SRLane": Repository("https://github.com/passerer/SRLane", "3923f6fa9430b2ccb8cdf64693949d07d22a77ab", None),
    "Ultra-Fast-Lane-Detection": Repository(
        "https://github.com/cfzd/Ultra-Fast-Lane-Detection", "353df107756b8c03c22c27201e33fc63d84ecfe6", "MIT"
    ),
    "Ultra-Fast-Lane-Detection-v2": Repository(
        "https://github.com/cfzd/Ultra-Fast-Lane-Detection-v2", "c903880678454dfd9b55a63022368db05c00bc6d", "MIT"
    ),
    "UnLanedet": Repository(
        "https://github.com/zkyntu/UnLanedet", "03921844220adb2e65c840de2d9759478d5c3d4c", "Apache-2.0"
    ),
    "conditional-lane-detection": Repository(
        "https://github.com/aliyun/conditional-lane-detection", "c57b242deea809800d1bb3ec547f12cc357ce95b", "Apache-2.0"
    ),
    "pytorch-auto-drive": Repository(
        "https://github.com/voldemortX/pytorch-auto-drive", "137e63a9e6c3cd2cfeb15e101808478d7b25ddbd", "BSD-3-Clause"
    ),
}
"""Name of the repository -> where it is and which commit counts."""
