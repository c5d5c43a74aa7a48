"""Bridges, one module an upstream repository: `detectors.upstream.bridge` says what they share."""
