"""What a trial says about its data: plain values that can be declared, compared and hashed.

The module stays free of pandas and scikit-learn, because every notebook loads declarations while
only a training reads the data themselves.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(gt=0)]

# The cuts of a profile: they select from a decoded data set and do not change what is decoded.
LIMITS = frozenset({"train_images", "validation_images", "test_images"})


class DataSpec(BaseModel):
    """A data set, the size of its images, its split and how much of each part is used."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    name: str = Field(description="a registered name or alias, see refit.data.SOURCES")
    image_size: int = Field(28, gt=0, le=512, description="side in pixels after the resize")
    resampling: Literal["nearest", "bilinear", "bicubic", "lanczos"] = Field(
        "bicubic", description="Pillow's filter, used when image_size is not the original side"
    )
    validation: Literal["split", "test"] = Field(
        "split", description="split off the learning images, or the test images themselves"
    )
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    split_seed: int = Field(42, ge=0, lt=2**32)
    train_images: Count | None = Field(None, description="the first n of the training part")
    validation_images: Count | None = Field(None, description="the first n of the validation part")
    test_images: Count | None = Field(None, description="the first n of the test part")
    fingerprint: str = Field("", description="hash of the source files, filled in by resolve()")
