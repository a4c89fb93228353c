"""tinymlir: an MLIR compiler from quantised CNNs to microcontroller object files."""

__version__ = "0.1.0"
