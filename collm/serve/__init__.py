"""A finished run behind HTTP: one thread owns the model, requests that wait together are scored together."""
