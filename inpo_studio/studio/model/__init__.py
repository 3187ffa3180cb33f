"""Which model the studio works with: found, fetched, changed."""
