"""Run folders and stage folders: atomic files, locks, records, environment."""
