"""The training process: frozen choices in, an adapter out."""
