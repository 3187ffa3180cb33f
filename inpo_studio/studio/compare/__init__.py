"""Base and aligned side by side, and the blind votes that judge them."""
