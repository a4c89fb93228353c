"""Kernels: how a layer on tensors becomes loops on memrefs."""
