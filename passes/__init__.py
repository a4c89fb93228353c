"""Passes of tinymlir, one file each, named as on the command line."""

from ._pass import REGISTRY, Pass, PassFailure, register_pass
from .tiny_calibrate import Calibrate
from .tiny_canonicalize_linalg import CanonicalizeLinalg
from .tiny_dense_to_conv import DenseToConv
from .tiny_drop_channels import DropChannels
from .tiny_emit_entry import EmitEntry
from .tiny_expand_division import ExpandDivision
from .tiny_expand_multiply import ExpandMultiply
from .tiny_finalize_functions import FinalizeFunctions
from .tiny_fit_requantize import FitRequantize
from .tiny_fold_biases import FoldBiases
from .tiny_fold_tables import FoldTables
from .tiny_fuse_stages import FuseStages
from .tiny_gate_levels import GateLevels
from .tiny_legalize_tosa import LegalizeTosa
from .tiny_link_levels import LinkLevels
from .tiny_load_pairs import LoadPairs
from .tiny_lower_add_float32 import LowerAddFloat32
from .tiny_lower_clamps import LowerClamps
from .tiny_lower_dual_mac import LowerDualMac
from .tiny_lower_layers import LowerLayers
from .tiny_lower_multiply_high import LowerMultiplyHigh
from .tiny_lower_patches import LowerPatches
from .tiny_lower_requantize import LowerRequantize
from .tiny_lower_rings import LowerRings
from .tiny_merge_functions import MergeFunctions
from .tiny_narrow_requantize import NarrowRequantize
from .tiny_outline_layers import OutlineLayers
from .tiny_pin_loads import PinLoads
from .tiny_plan_arena import PlanArena
from .tiny_plan_fusion import PlanFusion
from .tiny_quantize_io import QuantizeIo
from .tiny_select_kernels import SelectKernels
from .tiny_significance import Significance
from .tiny_sink_transposes import SinkTransposes
from .tiny_skip_macs import SkipMacs
from .tiny_sort_channels import SortChannels
from .tiny_tap_layers import TapLayers
from .tiny_unpack_kernels import UnpackKernels

__all__ = [
    "REGISTRY",
    "Calibrate",
    "CanonicalizeLinalg",
    "DenseToConv",
    "DropChannels",
    "EmitEntry",
    "ExpandDivision",
    "ExpandMultiply",
    "FinalizeFunctions",
    "FitRequantize",
    "FoldBiases",
    "FoldTables",
    "FuseStages",
    "GateLevels",
    "LegalizeTosa",
    "LinkLevels",
    "LoadPairs",
    "LowerAddFloat32",
    "LowerClamps",
    "LowerDualMac",
    "LowerLayers",
    "LowerMultiplyHigh",
    "LowerPatches",
    "LowerRequantize",
    "LowerRings",
    "MergeFunctions",
    "NarrowRequantize",
    "OutlineLayers",
    "Pass",
    "PassFailure",
    "PinLoads",
    "PlanArena",
    "PlanFusion",
    "QuantizeIo",
    "SelectKernels",
    "Significance",
    "SinkTransposes",
    "SkipMacs",
    "SortChannels",
    "TapLayers",
    "UnpackKernels",
    "register_pass",
]
