"""Training: augmentation, the data stream, optimizers and schedules, checkpoints, and the loop itself."""
