"""The algorithm: DDIM-InPO as pure functions of tensors. See README.md beside this file."""
