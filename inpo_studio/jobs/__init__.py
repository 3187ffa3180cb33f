"""What the worker does: one file a kind of job. Jobs come and go through the durable engine."""
