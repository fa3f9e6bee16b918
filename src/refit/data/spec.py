"""What a trial says about its data: plain values that can be declared, compared and hashed.

The module stays free of pandas and scikit-learn, because every notebook loads declarations while
only a training reads the data themselves.
"""

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

# What selects from a decoded data set and does not change what is decoded.
LIMITS = frozenset({"train_images", "validation_images", "test_images"})
SELECTION = LIMITS | {"only_classes", "draw_seed", "of_the_report"}


Count = Annotated[int, Field(gt=0)]


def _check_unique(classes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(classes)) < len(classes):
        raise ValueError(f"{list(classes)} names a class twice")
    return classes


# YAML and JSON, in which declarations and trials travel, know no tuples: so not strict.
Classes = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Field(min_length=2, strict=False),
    AfterValidator(_check_unique),
]


class DataSpec(BaseModel):
    """A data set, the size of its images, its split and how much of each part is used."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(description="a registered name or alias, see refit.data.sets.SOURCES")
    image_size: int = Field(28, gt=0, le=512, description="side in pixels after the resize")
    frames: Annotated[int, Field(ge=2)] | None = Field(
        None, description="frames sampled from every clip; None: data of single images"
    )
    resampling: Literal["nearest", "bilinear", "bicubic", "lanczos"] = Field(
        "bicubic", description="Pillow's filter, used when image_size is not the original side"
    )
    validation: Literal["split", "test"] = Field(
        "split", description="split off the learning images, or the test images themselves"
    )
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    split_seed: int = Field(42, ge=0, lt=2**32)
    only_classes: Classes | None = Field(
        None, description="positions of the classes that are kept, numbered anew in this order"
    )
    train_images: Count | None = Field(None, description="only n of the training part")
    validation_images: Count | None = Field(None, description="only n of the validation part")
    test_images: Count | None = Field(None, description="only n of the test part")
    draw_seed: int | None = Field(
        None, ge=0, description="draws which n of a part are used; None: the first n"
    )
    of_the_report: bool = Field(
        False, description="the author says that these images are the report's, no stand-in"
    )
    fingerprint: str = Field("", description="hash of the source files, filled in by resolve()")

    @model_validator(mode="after")
    def _clips_stay_on_disk(self) -> "DataSpec":
        if self.frames and self.only_classes:
            raise ValueError(
                "only_classes: would copy the clips of these classes into memory; not for frames"
            )
        return self
