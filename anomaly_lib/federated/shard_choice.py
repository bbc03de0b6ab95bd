"""Which images a site has: its own folder, or its share of one data set."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self, get_args

from anomaly_lib.datasets import Category
from anomaly_lib.datasets.choice import CSV, FOLDER, DataChoice
from anomaly_lib.datasets.listing import entries, is_folder
from anomaly_lib.datasets.transforms import Geometry
from anomaly_lib.errors import DataError, ParameterError
from anomaly_lib.federated.shards import round_robin, skewed

Split = Literal["round_robin", "skewed", "folders"]
SPLITS: tuple[str, ...] = get_args(Split)
"""How images are dealt out: in turn, so that sites differ, or as they lie in a folder for each site."""


@dataclass(frozen=True)
class ShardChoice:
    """A site's images: those of `rank`, from 1, of `worldsize` sites of a data set; of one site, all of it.

    Attributes
    ----------
    data
        The data set; with the split ``folders``, a folder of a data set for each site, in the order of names.
    split
        How it is dealt out.
    """

    data: DataChoice
    rank: int = 1
    worldsize: int = 1
    split: str = "round_robin"

    def __post_init__(self) -> None:
        if not 1 <= self.rank <= self.worldsize:
            raise ParameterError(f"rank is {self.rank}: give a number from 1 to worldsize, {self.worldsize}")
        if self.split not in SPLITS:
            raise ParameterError(f"split is {self.split!r}: give one of {', '.join(SPLITS)}")

    def categories(self) -> list[Category]:
        """Return the site's shard of each category.

        Raises
        ------
        DataError
            When there are no such images.
        """
        if self.split == "folders":
            return replace(self.data, root=self._folder()).read()
        deal = skewed if self.split == "skewed" else round_robin
        return [deal(category, self.worldsize)[self.rank - 1] for category in self.data.read()]

    def category(self, name: str) -> Category:
        """Return the site's shard of a category; a data set that is one category is it, whatever its name.

        Raises
        ------
        DataError
            When there is none.
        """
        for category in self.categories():
            if self.data.name in (FOLDER, CSV) or category.name == name:
                return replace(category, name=name)
        raise DataError(f"no category {name!r} at this site")

    def _folder(self) -> Path:
        folders = [entry for entry in entries(self.data.root) if is_folder(entry)]
        if len(folders) != self.worldsize:
            raise DataError(
                f"{len(folders)} folders in {self.data.root} for {self.worldsize} sites: give each its own"
            )
        return folders[self.rank - 1]

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def of_text(cls, text: str) -> Self:
        """Return what `text` did."""
        fields = json.loads(text)
        data = fields.pop("data")
        paths = {name: None if data[name] is None else Path(data[name]) for name in ("abnormal", "masks")}
        geometry = Geometry(**data.pop("geometry"))
        whole = {**data, **paths, "root": Path(data["root"]), "geometry": geometry}
        return cls(DataChoice(**whole), **fields)
