"""Quantised TOSA to the canonical form; the pass ``tiny-legalize-tosa``."""
