"""Watching a matrix while it runs, from its own terminal or from any machine that sees its folder: events, heartbeats, forecasts."""
