"""Multi-stage fusion: which layers run together row by row, at what cost (docs/fusion.md)."""
