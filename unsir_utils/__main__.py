"""python -m unsir_utils forget: the call `forget` on a folder of images and a checkpoint."""

import sys

if __name__ == "__main__":
    from .own.terminal import main

    sys.exit(main())
