"""Model architectures and the embedded default model."""

from mretrieve.models.register import register_on_import

register_on_import()
