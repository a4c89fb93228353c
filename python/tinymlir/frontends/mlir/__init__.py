"""MLIR as input: linalg on tensors, or int8 TOSA, to the canonical form."""
