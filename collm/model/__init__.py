"""The language model with encoder vectors in its prompt."""
