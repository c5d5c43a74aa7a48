"""What `samiro-bench detectors new` writes: an adapter that works, a suite that runs it, a test that holds it to its promises."""
