"""The options of operators: table of the schema, and fields with their defaults.

A tuple as the default marks a vector of integers.
"""

from __future__ import annotations

from typing import Any

_Options = tuple[str, dict[str, Any]]

_WINDOW = {"Padding": 0, "StrideW": 0, "StrideH": 0, "FusedActivationFunction": 0}
_CONVOLUTION = {**_WINDOW, "DilationWFactor": 1, "DilationHFactor": 1}
_POOL: _Options = ("Pool2DOptions", {**_WINDOW, "FilterWidth": 0, "FilterHeight": 0})
_REDUCER: _Options = ("ReducerOptions", {"KeepDims": False})
_FUSED = {"FusedActivationFunction": 0}

OPTIONS: dict[str, _Options] = {
    "ADD": ("AddOptions", _FUSED),
    "AVERAGE_POOL_2D": _POOL,
    "CONCATENATION": ("ConcatenationOptions", {"Axis": 0, **_FUSED}),
    "CONV_2D": ("Conv2DOptions", _CONVOLUTION),
    "DEPTHWISE_CONV_2D": ("DepthwiseConv2DOptions", {**_CONVOLUTION, "DepthMultiplier": 0}),
    "DEPTH_TO_SPACE": ("DepthToSpaceOptions", {"BlockSize": 0}),
    "DIV": ("DivOptions", _FUSED),
    "FULLY_CONNECTED": (
        "FullyConnectedOptions",
        {**_FUSED, "WeightsFormat": 0, "KeepNumDims": False},
    ),
    "GELU": ("GeluOptions", {"Approximate": False}),
    "GATHER": ("GatherOptions", {"Axis": 0, "BatchDims": 0}),
    "LEAKY_RELU": ("LeakyReluOptions", {"Alpha": 0.0}),
    "MAX_POOL_2D": _POOL,
    "MEAN": _REDUCER,
    "MIRROR_PAD": ("MirrorPadOptions", {"Mode": 0}),
    "MUL": ("MulOptions", _FUSED),
    "PACK": ("PackOptions", {"ValuesCount": 0, "Axis": 0}),
    "REDUCE_MAX": _REDUCER,
    "REDUCE_MIN": _REDUCER,
    "REDUCE_PROD": _REDUCER,
    "RESHAPE": ("ReshapeOptions", {"NewShape": ()}),
    "RESIZE_BILINEAR": (
        "ResizeBilinearOptions",
        {"AlignCorners": False, "HalfPixelCenters": False},
    ),
    "RESIZE_NEAREST_NEIGHBOR": (
        "ResizeNearestNeighborOptions",
        {"AlignCorners": False, "HalfPixelCenters": False},
    ),
    "SHAPE": ("ShapeOptions", {"OutType": 0}),
    "SOFTMAX": ("SoftmaxOptions", {"Beta": 0.0}),
    "SPACE_TO_DEPTH": ("SpaceToDepthOptions", {"BlockSize": 0}),
    "SPLIT": ("SplitOptions", {"NumSplits": 0}),
    "SQUEEZE": ("SqueezeOptions", {"SqueezeDims": ()}),
    "STRIDED_SLICE": (
        "StridedSliceOptions",
        {
            "BeginMask": 0,
            "EndMask": 0,
            "EllipsisMask": 0,
            "NewAxisMask": 0,
            "ShrinkAxisMask": 0,
            "Offset": False,
        },
    ),
    "SUB": ("SubOptions", _FUSED),
    "TRANSPOSE_CONV": ("TransposeConvOptions", _WINDOW),
    "UNPACK": ("UnpackOptions", {"Num": 0, "Axis": 0}),
}
