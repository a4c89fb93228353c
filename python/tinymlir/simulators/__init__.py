"""simulators of tinymlir."""
