"""Spoken digits in noise: what ISS, one-shot and magnitude pruning cost in accuracy, and gain in size and time."""
