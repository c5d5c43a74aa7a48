"""Whether a native detector computes what its upstream repository computes, layer by layer."""
