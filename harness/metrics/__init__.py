"""The official metrics of CULane, TuSimple and LLAMAS, exactly and fast, and the texts that their evaluators read."""
