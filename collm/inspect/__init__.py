"""What prepared data holds: counts, leaks, similar titles, the longest prompts."""
