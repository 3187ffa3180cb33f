"""What a comparison is worth: statistics and scorers."""
