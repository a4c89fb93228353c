"""The design space of skipping: how much of which layer, for what accuracy and what latency.

docs/skipping.md tells the method; ``tinymlir explore`` and ``compile --max-accuracy-drop`` run it.
"""
