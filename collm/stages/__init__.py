"""The stages of a run; they speak through files and fingerprints."""
