"""Training, scoring, schedules, checkpoints, seeds and devices; knows no stage and no file of a run."""
