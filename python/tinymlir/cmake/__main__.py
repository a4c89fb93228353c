"""Print the folder that holds ``tinymlir-config.cmake``."""

from pathlib import Path

print(Path(__file__).parent.resolve())
