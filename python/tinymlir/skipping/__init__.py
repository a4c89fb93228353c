"""Leaving out multiplications that hardly matter: statistics, significance, compensation.

docs/skipping.md tells the method; the passes ``tiny-calibrate``, ``tiny-significance`` and
``tiny-skip-macs`` are its steps.
"""
