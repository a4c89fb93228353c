"""frontends of tinymlir."""
