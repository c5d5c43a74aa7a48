"""Backbone weights that were trained elsewhere: their cache, where a configuration's stand, and getting them."""
