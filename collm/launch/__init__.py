"""Runs as processes of their own: on this machine, on a Ray cluster, as jobs of SLURM; what they share comes first."""
