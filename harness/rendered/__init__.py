"""The road renderer: scene -> image + exact lanes + scenario, and a writer of whole datasets.

`spec` says what is wanted, `scene` samples a clip's world, `frame` turns one moment of it into an image and its
lanes, `dataset`
writes them as a CULane dataset.
"""
