"""Prompts as typed segments, token ids and slot positions."""
