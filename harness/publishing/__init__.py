"""Publishing: what of a run is copied to results/<suite>/ and the README."""
