"""The field: one file per lane detector, behind the contract of `detectors.base`."""
