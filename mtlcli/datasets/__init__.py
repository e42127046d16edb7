"""Where labels come from: one file per dataset, named as the dataset; torch-free."""

from mtlcli import lookup
from mtlcli.datasets._dataset import Dataset


def find(name: str) -> Dataset:
    """The record of the dataset of that name.

    Raises:
        InputError: no such name.
    """
    dataset: Dataset = lookup.load("datasets", name).DATASET
    return dataset
