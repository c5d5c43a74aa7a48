"""The conformance battery: what every adapter must keep of the promises that `detectors.base` states."""
