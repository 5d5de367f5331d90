"""Put a finished run's model into the package: `python training/pack.py training/runs/moe-small`."""

import argparse
from pathlib import Path

from mretrieve.errors import InputError
from mretrieve.models.released import packed_folder
from mretrieve.train.packing import pack_run


def main() -> None:
    """Pack, and say how large it is and how near to the trained model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="run folder of a recipe")
    parser.add_argument("--name", default="moe-small", help="of the model, for users")
    parser.add_argument("--version", default="1", help="raise it when the weights change")
    options = parser.parse_args()
    try:
        report = pack_run(options.run, packed_folder(options.name), version=options.version)
    except InputError as error:
        parser.error(str(error))
    print(
        f"{packed_folder(options.name)}: {report.bytes / 1e6:.1f} MB; cosine to the trained model "
        f"{report.cosine_mean:.6f} on the mean, {report.cosine_least:.6f} at least"
    )


if __name__ == "__main__":
    main()
