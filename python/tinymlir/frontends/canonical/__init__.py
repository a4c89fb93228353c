"""Layers of the canonical form, for any frontend: integer arithmetic in, IR out."""
