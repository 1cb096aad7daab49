"""The model: encode the seen tokens, decode with the [MASK]s appended, predict the targets."""
