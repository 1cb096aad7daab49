"""How good an encoder is: fine-tuned on tasks, GLUE or own ones, by minimal pairs, and by its vectors alone."""
