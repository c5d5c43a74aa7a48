"""Which upstream model each of our variants is compared with. Listing them imports nothing."""

from __future__ import annotations

REFERENCES: dict[str, str] = {
    "bezierlanenet_resnet18": "detectors.upstream.pytorch_auto_drive:BezierLaneNet",
    "bezierlanenet_resnet34": "detectors.upstream.pytorch_auto_drive:BezierLaneNet",
    "clrernet_dla34": "detectors.upstream.clrernet:CLRerNet",
    "clrernet_dla34_ema": "detectors.upstream.clrernet:CLRerNet",
    "clrnet_dla34": "detectors.upstream.clrnet:CLRNet",
    "clrnet_resnet101": "detectors.upstream.clrnet:CLRNet",
    "clrnet_resnet18": "detectors.upstream.clrnet:CLRNet",
    "clrnet_resnet34": "detectors.upstream.clrnet:CLRNet",
    "laneatt_resnet122": "detectors.upstream.laneatt:LaneATT",
    "laneatt_resnet18": "detectors.upstream.laneatt:LaneATT",
    "laneatt_resnet34": "detectors.upstream.laneatt:LaneATT",
    "lstr_resnet18s": "detectors.upstream.lstr:LSTR",
    "lstr_resnet18s_1x": "detectors.upstream.pytorch_auto_drive:LSTR",
    "lstr_resnet18s_2x": "detectors.upstream.pytorch_auto_drive:LSTR",
    "lstr_resnet34": "detectors.upstream.pytorch_auto_drive:LSTR",
    "polylanenet_efficientnet_b0": "detectors.upstream.polylanenet:PolyLaneNet",
    "polylanenet_efficientnet_b1": "detectors.upstream.polylanenet:PolyLaneNet",
    "polylanenet_resnet34": "detectors.upstream.polylanenet:PolyLaneNet",
    "polylanenet_resnet50": "detectors.upstream.polylanenet:PolyLaneNet",
    "resa_resnet101": "detectors.upstream.pytorch_auto_drive:RESA",
    "resa_resnet18": "detectors.upstream.pytorch_auto_drive:RESA",
    "resa_resnet34": "detectors.upstream.pytorch_auto_drive:RESA",
    "scnn_resnet101": "detectors.upstream.pytorch_auto_drive:SCNN",
    "scnn_resnet18": "detectors.upstream.pytorch_auto_drive:SCNN",
    "scnn_resnet34": "detectors.upstream.pytorch_auto_drive:SCNN",
    "ufld_resnet101": "detectors.upstream.ultra_fast_lane_detection:UFLD",
    "ufld_resnet18": "detectors.upstream.ultra_fast_lane_detection:UFLD",
    "ufld_resnet34": "detectors.upstream.ultra_fast_lane_detection:UFLD",
    "ufldv2_resnet18": "detectors.upstream.ultra_fast_lane_detection_v2:UFLDv2",
    "ufldv2_resnet34": "detectors.upstream.ultra_fast_lane_detection_v2:UFLDv2",
}
"""Variant name -> "module:class" of its `Reference`."""
