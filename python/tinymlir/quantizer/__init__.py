"""Float ONNX networks to the quantised form that compiles, by ONNX Runtime's static quantiser."""

from .float_model import FloatModel, Floats
from .static import Quantized, Settings, float_outputs, quantize, quantized_outputs

__all__ = [
    "FloatModel",
    "Floats",
    "Quantized",
    "Settings",
    "float_outputs",
    "quantize",
    "quantized_outputs",
]
