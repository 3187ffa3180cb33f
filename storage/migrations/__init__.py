"""Schema migrations; `storage.migrate` runs them."""
