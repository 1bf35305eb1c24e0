"""Optimisers: by name from kept libraries (`known`), made (`make`), their learning rates (`course`) and their state (`state`)."""
