"""What a plugin promises, by kind. Nothing here imports torch."""
