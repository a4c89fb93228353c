"""CMake's side: ``find_package(tinymlir)`` with ``-Dtinymlir_DIR=$(python -m tinymlir.cmake)``."""
