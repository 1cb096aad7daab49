"""How good an encoder is: fine-tuned on tasks of GLUE or your own, by minimal pairs, and by its vectors alone."""
