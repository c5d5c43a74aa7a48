"""Programs that drive upstream code in an environment of its own, and their descriptions: docs/programs.md. Nothing imports them."""
