"""Cores from their RTL, made into shared libraries by Verilator, that run firmware images."""
