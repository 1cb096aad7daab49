"""Fine-tuning on GLUE, and minimal pairs: how good an encoder is."""
