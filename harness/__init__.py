"""The benchmark harness: suites, cells, datasets, metrics, methods, records and leaderboards."""
