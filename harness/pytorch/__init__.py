"""What PyTorch lacks: guards and helpers that know nothing of lanes."""
