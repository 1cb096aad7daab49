"""`python -m masklater` is the command `masklater`, which is what torchrun starts."""

from masklater.cli import main

if __name__ == "__main__":
    main()
