"""Protocol lane-latency/1 as a whole: every measurement in a fresh process, on the files of a test set."""
