"""Prompts that share a prefix: every distinct token is computed once."""
