"""Training-time methods: what is wrapped around a detector while it learns."""
